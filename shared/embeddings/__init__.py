"""Low-dimensional maps that keep density (dtSNE), angles (Mercat) or leave out what is known (JEDI, CONFETTI).

>>> import numpy as np
>>> group = np.repeat([0, 1], 40)  # the second group is four times as wide
>>> X = np.random.default_rng(0).normal(size=(80, 5)) * (1 + 3 * group[:, None]) + 40 * group[:, None]
>>> tight, wide = rms_radii(DTSNE(perplexity=10, max_iter=300, random_state=0).fit_transform(X), group)
>>> bool(3 < wide / tight < 5)
True
"""

from shared.embeddings._affinities import affinities, bandwidths, density_scale, neighbour_affinities
from shared.embeddings._angles import angle_corr, angle_errors, random_triples, triple_angles
from shared.embeddings._base import classical_scaling
from shared.embeddings._confetti import confetti, label_distances
from shared.embeddings._descent import DescentSchedule, descend
from shared.embeddings._draw import draw_map, draw_sphere
from shared.embeddings._dtsne import DTSNE, SparseKL
from shared.embeddings._jedi import JEDI, prior_affinities
from shared.embeddings._mercat import (
    Mercat,
    angle_cosines,
    angle_loss,
    pairwise_directions,
    pca_denoise,
    sphere_patch,
)
from shared.embeddings._metrics import (
    distance_matrix,
    global_corr,
    knn_radii,
    knn_recall,
    local_corr,
    nearest_neighbours,
    nos_area,
    nos_curve,
    radius_corr,
    rms_radii,
    trustworthiness,
)
from shared.embeddings._objectives import jedi_objective, js_divergence, kl_gradient, kl_objective, pair_kernel
from shared.embeddings._sphere import (
    exp_map,
    face_on,
    from_lonlat,
    pairwise_tangents,
    procrustes_align,
    project_to_tangent,
    random_rotation,
    retract,
    to_lonlat,
)

__all__ = [
    "DTSNE",
    "JEDI",
    "DescentSchedule",
    "Mercat",
    "SparseKL",
    "affinities",
    "angle_corr",
    "angle_cosines",
    "angle_errors",
    "angle_loss",
    "bandwidths",
    "classical_scaling",
    "confetti",
    "density_scale",
    "descend",
    "distance_matrix",
    "draw_map",
    "draw_sphere",
    "exp_map",
    "face_on",
    "from_lonlat",
    "global_corr",
    "jedi_objective",
    "js_divergence",
    "kl_gradient",
    "kl_objective",
    "knn_radii",
    "knn_recall",
    "label_distances",
    "local_corr",
    "nearest_neighbours",
    "neighbour_affinities",
    "nos_area",
    "nos_curve",
    "pair_kernel",
    "pairwise_directions",
    "pairwise_tangents",
    "pca_denoise",
    "prior_affinities",
    "procrustes_align",
    "project_to_tangent",
    "radius_corr",
    "random_rotation",
    "random_triples",
    "retract",
    "rms_radii",
    "sphere_patch",
    "to_lonlat",
    "triple_angles",
    "trustworthiness",
]
