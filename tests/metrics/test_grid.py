"""Grid pointing game: closed forms, the definition as a loop, agreement with the mass in a mask, and bad input."""

import pytest
import torch

from shared.metrics import cell_energy, grid_pointing_game, relevance_mass
from shared.vision import cell_mask, image_grid


def signed(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_uniform_is_chance_and_all_inside_is_one():
    assert grid_pointing_game(torch.ones(2, 4, 4), 3).tolist() == [0.25, 0.25]
    inside = image_grid(torch.eye(4).view(4, 4, 1, 1, 1).expand(4, 4, 1, 2, 3))
    assert grid_pointing_game(inside, torch.arange(4)).tolist() == [1, 1, 1, 1]
    assert grid_pointing_game(-inside, torch.arange(4), empty=0).tolist() == [0, 0, 0, 0]


def test_definition_as_a_loop():
    maps, cells = signed(5, 6, 9), [0, 5, 2, 3, 4]
    got = grid_pointing_game(maps, torch.tensor(cells), columns=3, rows=2)
    for row, (image, cell) in enumerate(zip(maps.tolist(), cells)):
        inside = total = 0.0
        for i in range(6):
            for j in range(9):
                total += max(image[i][j], 0)
                inside += max(image[i][j], 0) * ((i // 3) * 3 + j // 3 == cell)
        assert got[row].item() == pytest.approx(inside / total, rel=1e-6)


def test_is_the_relevance_mass_in_the_cell():
    maps, cells = signed(8, 6, 10), torch.arange(8) % 4
    want = relevance_mass(maps.flatten(1), cell_mask(cells, (3, 5)).flatten(1))
    torch.testing.assert_close(grid_pointing_game(maps, cells), want)


def test_scores_of_all_cells_sum_to_one_and_units_do_not_matter():
    maps = signed(3, 2, 4, 4)
    scores = torch.stack([grid_pointing_game(maps, cell) for cell in range(4)])
    torch.testing.assert_close(scores.sum(0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(grid_pointing_game(maps * 1e-12, 1), scores[1])
    torch.testing.assert_close(cell_energy(maps).sum(1), maps.double().clamp(min=0).flatten(1).sum(1))


def test_empty_maps_score_chance_unless_told():
    assert grid_pointing_game(-torch.ones(1, 4, 6), 0, columns=3).tolist() == [1 / 6]
    assert grid_pointing_game(torch.zeros(1, 4, 4), 0, empty=0.0).tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 4, 4), 4), "cell=4 is out of range; accepted: 0 to 3"),
        ((torch.ones(2, 4, 4), torch.tensor([0, 1, 2])), "cell has 3 entries for a batch of 2"),
        ((torch.ones(2, 4, 4), 0.5), "cell must be an int"),
        ((torch.ones(2, 5, 4), 0), "attribution is 5 x 4"),
        ((torch.ones(4, 4), 0), r"attribution has shape \(4, 4\)"),
        ((torch.full((1, 4, 4), torch.nan), 0), "attribution has 16 NaN"),
        ((torch.ones(0, 4, 4), 0), "attribution is empty"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        grid_pointing_game(*arguments)


@pytest.mark.parametrize(
    "score",
    [lambda **o: grid_pointing_game(torch.ones(2, 4, 4), 0, **o), lambda **o: cell_energy(torch.ones(2, 4, 4), **o)],
)
@pytest.mark.parametrize("side", ["columns", "rows"])
def test_a_grid_has_cells(score, side):
    with pytest.raises(ValueError, match=f"{side}=0 is out of range"):
        score(**{side: 0})
