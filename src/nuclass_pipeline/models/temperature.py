"""The temperature that calibrates probabilities."""

import numpy as np
from scipy.optimize import minimize_scalar

from nuclass_pipeline.arrays import Floats, Integers

# The smallest normal float32, because the log of a probability that underflowed must stay finite.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
# Bounded, because predictions that are all right, or all wrong, would drive T to 0 or to infinity.
MAX_TEMPERATURE = 20.0


def fit_temperature(proba: Floats, truth: Integers) -> float:
    """Return the temperature that minimises the negative log-likelihood.

    Parameters
    ----------
    proba
        (N, K) probabilities.
    truth
        (N,) class index.

    Returns
    -------
    float
        T between 1/20 and 20; softmax(log p / T) is calibrated (Guo et al. 2017). The likelihood is concave in 1/T, so
        its only optimum is found.
    """
    # Over log T, because halving and doubling the temperature are steps of the same size.
    bound = np.log(MAX_TEMPERATURE)
    found = minimize_scalar(lambda t: log_loss(proba, truth, np.exp(t)), bounds=(-bound, bound), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


def log_loss(proba: Floats, truth: Integers, temperature: float) -> float:
    """Return the mean negative log-likelihood (nats) at a temperature."""
    scaled = np.log(np.maximum(proba, MIN_PROBABILITY)) / temperature
    return float((np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean())
