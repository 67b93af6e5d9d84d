#!/usr/bin/env python3
"""Make pkg/infer/testdata/intervals.json: means with confidence intervals by scipy and statsmodels.

Equal weights: scipy.stats.ttest_1samp's confidence interval. Any weights: statsmodels' weighted
least squares on a constant with the covariance HC1, whose standard error is that of a ratio of
sums, and scipy's quantile of Student's t.

Needs scripts/setup-python gate. Run: .venv/bin/python scripts/make_gate_fixtures.py
"""
import json
import pathlib

import numpy as np
import scipy.stats
import statsmodels.api as sm

OUT = pathlib.Path(__file__).resolve().parent.parent / "pkg/infer/testdata/intervals.json"


def case(name, w, x, confidence):
    w, x = np.asarray(w, float), np.asarray(x, float)
    fit = sm.WLS(x, np.ones_like(x), weights=w).fit(cov_type="HC1")
    mean, se = fit.params[0], fit.bse[0]
    low, high = scipy.stats.t.interval(confidence, len(x) - 1, loc=mean, scale=se)
    if np.all(w == w[0]):
        plain = scipy.stats.ttest_1samp(x, 0).confidence_interval(confidence)
        np.testing.assert_allclose([low, high], [plain.low, plain.high], rtol=1e-12)
    return {"name": name, "weights": w.tolist(), "values": x.tolist(), "confidence": confidence,
            "mean": float(mean), "se": float(se), "low": float(low), "high": float(high)}


def main():
    rng = np.random.default_rng(20)
    cases = [
        case("two windows", [255, 255], [0.01, 0.03], 0.95),
        case("two windows of other length", [255, 17], [-0.25, 0.5], 0.95),
        case("three, 99 %", [1, 2, 3], [1e-4, -2e-4, 5e-4], 0.99),
        case("equal weights", [511] * 40, 0.004 + 0.02 * rng.standard_normal(40), 0.95),
        case("last window short", [255] * 30 + [12], 0.02 * rng.standard_normal(31), 0.95),
        case("weights of stride", [255] + [64] * 99, -0.01 + 0.05 * rng.standard_normal(100), 0.95),
        case("any weights", rng.integers(1, 512, 300), rng.standard_t(3, 300) / 50, 0.9),
    ]
    OUT.write_text(json.dumps({"cases": cases}, indent=1) + "\n")
    print("wrote", OUT, len(cases), "cases")


if __name__ == "__main__":
    main()
