"""What domains consist of."""

from collections.abc import Iterable

import pandas as pd


def composition(labels: Iterable[str], domains: Iterable[str | None]) -> pd.DataFrame:
    """Give the share of each label among the cells of each domain.

    This describes a domain; it is no name for it, and none for its cells.

    Parameters
    ----------
    labels
        Label of each cell, Unresolved included.
    domains
        Domain of each cell; cells without one are left out.

    Returns
    -------
    One row per domain, largest first, one column per label; rows sum to one.
    """
    frame = pd.DataFrame({"label": list(labels), "domain": list(domains)}, dtype=object).dropna()
    order = frame["domain"].value_counts(sort=False).sort_values(ascending=False, kind="stable").index
    shares: pd.DataFrame = pd.crosstab(frame["domain"], frame["label"], normalize="index").loc[order]
    return shares
