#!/usr/bin/env python3
"""Coverage of 95 % intervals of a mean over correlated windows, by estimator of the standard error:
the comparison behind the choice in docs/ci.md.

Series are autoregressive of order 1 with correlation rho; weights are unequal. An entry is the
share of upper bounds above the true mean, in per cent (nominal 97.5), and the mean half width
of the interval relative to that with a known standard error.

  independent  the windows treated as independent, Student's t with n-1 degrees of freedom
  newey-west   Bartlett kernel, automatic lag of Newey and West (1994), t with n-1
  cosine       equal-weighted cosines, 0.4 n^(2/3) of them (Lazarus, Lewis, Stock and Watson, 2018)
  batches      max(4, sqrt(n)) batches of consecutive windows, t with batches-1: what afmq gate does

Needs scripts/setup-python gate. Run: .venv/bin/python scripts/gate_coverage.py
"""
import argparse

import numpy as np
from scipy import stats


def innovations(rng, kind, shape):
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "t3":
        return rng.standard_t(3, shape)
    return rng.exponential(1, shape) - 1


def series(rng, kind, rho, n, trials):
    e = innovations(rng, kind, (trials, n + 50))
    x = np.zeros_like(e)
    for i in range(n + 50):
        x[:, i] = e[:, i] + (rho * x[:, i - 1] if i else 0)
    return x[:, 50:]


# Each estimator takes the weighted residuals u [trials, n] and returns an estimate of the
# variance of their sum, which the weights' sum squared divides, and the degrees of freedom.
def independent(u):
    n = u.shape[1]
    return n / (n - 1) * (u**2).sum(1), n - 1


def newey_west(u):
    n = u.shape[1]
    lags = max(1, int(4 * (n / 100) ** (2 / 9)))
    g = np.stack([(u[:, k:] * u[:, : n - k]).sum(1) for k in range(n // 3 + 1)], 1)
    s0 = g[:, 0] + 2 * g[:, 1 : lags + 1].sum(1)
    s1 = 2 * (np.arange(1, lags + 1) * g[:, 1 : lags + 1]).sum(1)
    m = np.minimum(np.floor(1.1447 * ((s1 / s0) ** 2 * n) ** (1 / 3)), n // 3)
    kernel = np.clip(1 - np.arange(n // 3 + 1) / (m[:, None] + 1), 0, None)
    kernel[:, 1:] *= 2
    return n / (n - 1) * (kernel * g).sum(1), n - 1


def cosine(u):
    n = u.shape[1]
    count = max(2, int(0.4 * n ** (2 / 3)))
    j = np.arange(1, count + 1)[:, None]
    basis = np.sqrt(2 / n) * np.cos(np.pi * j * (np.arange(n) + 0.5) / n)
    return n * ((u @ basis.T) ** 2).mean(1), count


def batches(u):
    n = u.shape[1]
    a = max(4, round(n**0.5))
    edges = [g * n // a for g in range(a)]
    return a / (a - 1) * (np.add.reduceat(u, edges, axis=1) ** 2).sum(1), a - 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--trials", type=int, default=4000)
    args = p.parse_args()
    rng = np.random.default_rng(1)
    estimators = {"independent": independent, "newey-west": newey_west, "cosine": cosine, "batches": batches}
    print("| innovations | rho | windows |", " | ".join(estimators), "|")
    print("| --- | --- | --- |" + " --- |" * len(estimators))
    for kind in ["normal", "t3", "exponential"]:
        for rho in [0.2, 0.6]:
            for n in [8, 16, 64, 500]:
                x = series(rng, kind, rho, n, args.trials)
                w = rng.integers(64, 256, x.shape).astype(float)
                mean = (w * x).sum(1) / w.sum(1)
                u = w * (x - mean[:, None])
                cells = []
                for estimate in estimators.values():
                    variance, df = estimate(u)
                    half = stats.t.ppf(0.975, df) * np.sqrt(variance) / w.sum(1)
                    width = half.mean() / (1.96 * mean.std())
                    cells.append(f"{100 * (mean + half >= 0).mean():.1f}, {width:.2f}")
                print(f"| {kind} | {rho} | {n} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
