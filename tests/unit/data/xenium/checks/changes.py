"""Changes of the files of a bundle, for the tests of this folder."""

import json

import h5py
import numpy as np
import pandas as pd

ROW = 7
"""Cell that is changed where one is."""


def table(change, name="cells"):
    """Return a change of a Parquet table of a bundle."""

    def damage(bundle):
        path = bundle / f"{name}.parquet"
        change(pd.read_parquet(path)).to_parquet(path, index=False)

    return damage


def centroids(change):
    """Return a change of the centroids, given and returned as (cells, 2)."""

    def move(frame):
        xy = change(frame[["x_centroid", "y_centroid"]].to_numpy())
        return frame.assign(x_centroid=xy[:, 0], y_centroid=xy[:, 1])

    return table(move)


def put(name, value, rows=ROW):
    """Return a change of one value of the cell table."""

    def change(frame):
        column = frame[name].astype(float).to_numpy(copy=True)
        column[rows] = value
        return frame.assign(**{name: column})

    return table(change)


def scaled(factor, *names):
    return table(lambda frame: frame.assign(**{name: frame[name] * factor for name in names}))


def manifest(**values):
    """Return a change of entries of `experiment.xenium`; None removes one."""

    def damage(bundle):
        path = bundle / "experiment.xenium"
        record = json.loads(path.read_text()) | values
        path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))

    return damage


def matrix(change):
    """Return a change of the group of the HDF5 file."""

    def damage(bundle):
        with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
            change(file["matrix"])

    return damage


def replaced(**change):
    """Return a change of datasets of the matrix; their names have `__` for a slash."""

    def edit(group):
        for key, function in change.items():
            name = key.replace("__", "/")
            values = function(group[name][:])
            del group[name]
            group[name] = values

    return matrix(edit)


def both(*damages):
    def damage(bundle):
        for one in damages:
            one(bundle)

    return damage


def shuffled(values):
    return np.random.default_rng(3).permutation(values)
