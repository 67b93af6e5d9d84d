#!/usr/bin/env python3
"""Make pkg/gate/testdata/intervals.json: means with confidence intervals by statsmodels and scipy.

Cases: statsmodels' weighted least squares on a constant with the covariance "cluster", whose
groups are the batches of consecutive windows, and scipy's quantile of Student's t with
batches-1 degrees of freedom. With equal weights and equal batches that is the t interval of
the batch means, which scipy.stats.ttest_1samp gives independently.

Long: one long autocorrelated series with the standard errors of statsmodels' covariances "HAC"
(Newey and West, Bartlett kernel) and "HC1" (windows treated as independent). Batch means estimate
the same quantity as HAC.

Needs scripts/setup-python gate. Run: .venv/bin/python scripts/make_gate_fixtures.py
"""
import json
import pathlib

import numpy as np
import scipy.stats
import statsmodels.api as sm

OUT = pathlib.Path(__file__).resolve().parent.parent / "pkg/gate/testdata/intervals.json"


def fit(w, x, **covariance):
    return sm.WLS(x, np.ones_like(x), weights=w).fit(**covariance)


def case(name, batches, w, x, confidence):
    w, x = np.asarray(w, float), np.asarray(x, float)
    n = len(x)
    edges = [g * n // batches for g in range(batches + 1)]
    groups = np.repeat(np.arange(batches), np.diff(edges))
    f = fit(w, x, cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True})
    mean, se = f.params[0], f.bse[0]
    low, high = scipy.stats.t.interval(confidence, batches - 1, loc=mean, scale=se)
    if np.all(w == w[0]) and n % batches == 0:
        plain = scipy.stats.ttest_1samp(x.reshape(batches, -1).mean(1), 0).confidence_interval(confidence)
        np.testing.assert_allclose([low, high], [plain.low, plain.high], rtol=1e-10)
    return {"name": name, "weights": w.tolist(), "values": x.tolist(), "confidence": confidence,
            "batches": batches, "mean": float(mean), "se": float(se), "low": float(low), "high": float(high)}


def ar1(rng, n, rho):
    x = np.zeros(n)
    for i, e in enumerate(rng.standard_normal(n)):
        x[i] = (rho * x[i - 1] if i else 0) + e
    return x


def long(rng):
    w = np.tile([255.0, 255, 255, 128], 600)
    x = np.round(0.004 + 0.02 * ar1(rng, len(w), 0.5), 5)
    hac = fit(w, x, cov_type="HAC", cov_kwds={"maxlags": 40, "use_correction": True})
    return {"weights": w.tolist(), "values": x.tolist(), "mean": float(hac.params[0]),
            "hac": float(hac.bse[0]), "hc1": float(fit(w, x, cov_type="HC1").bse[0])}


def main():
    rng = np.random.default_rng(20)
    cases = [
        case("eight windows", 4, [255] * 8, [0.01, 0.03, -0.02, 0.015, 0.002, 0.01, 0.02, -0.004], 0.95),
        case("eight windows, the last short", 4, [255] * 7 + [17], [0.01, 0.03, -0.02, 0.015, 0.002, 0.01, 0.02, -0.5], 0.95),
        case("ten, 99 %", 4, range(1, 11), 1e-4 * rng.standard_normal(10), 0.99),
        case("equal weights", 6, [511] * 36, 0.004 + 0.02 * ar1(rng, 36, 0.3), 0.95),
        case("last window short", 6, [255] * 30 + [12], 0.02 * rng.standard_normal(31), 0.95),
        case("weights of stride", 10, [255] + [64] * 99, -0.01 + 0.05 * ar1(rng, 100, 0.6), 0.95),
        case("any weights, heavy tails", 17, rng.integers(1, 512, 300), rng.standard_t(3, 300) / 50, 0.9),
    ]
    OUT.write_text(json.dumps({"cases": cases, "long": long(rng)}) + "\n")
    print("wrote", OUT, len(cases), "cases")


if __name__ == "__main__":
    main()
