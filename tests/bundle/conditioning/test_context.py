"""The context's normaliser: standardised, in components, with noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge

from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.context import RECORD_PENALTY
from scripts.conditioning.language_models import ConditionerError
from tests.bundle.conditioning.helpers import REPORTS


def test_standardised_context(llama: tuple[Any, Any]) -> None:
    conditioner = ReportConditioner(llama)
    assert not bool(conditioner.null_context(1).any())
    with pytest.raises(ConditionerError, match="fit_statistics"):
        conditioner(REPORTS)
    with pytest.raises(ConditionerError, match="at least 2 distinct"):
        conditioner.fit_statistics(REPORTS[:1] * 2)
    conditioner.fit_statistics(REPORTS)
    context = conditioner(REPORTS)
    assert context.requires_grad
    torch.testing.assert_close(context.mean(0), torch.zeros(2, 16), atol=1e-4, rtol=0)
    torch.testing.assert_close(context.std(0), torch.ones(2, 16), atol=1e-3, rtol=0)


def test_components_are_a_whitened_pca(llama: tuple[Any, Any], tmp_path: Path) -> None:
    """Against scikit-learn; and the folder brings them, whatever the conditioner was made for."""
    ages = [f"{age}-year-old patient with a nodule of {age % 7} mm" for age in range(50, 74)]
    whole, few = ReportConditioner(llama), ReportConditioner(llama, components=5)
    for each in (whole, few):
        each.fit_statistics(ages)
    expected = PCA(5, whiten=True).fit_transform(whole.encode(ages).flatten(1).double().numpy())
    context = few.encode(ages)
    assert context.shape == (24, 2, 16)
    directions = few.normaliser.directions / few.normaliser.directions.norm(dim=1, keepdim=True)
    found = (context.flatten(1) @ directions.T).double().numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    assert np.linalg.matrix_rank(context.flatten(1).numpy(), tol=1e-3) == 5
    whole.load_pretrained(few.save_pretrained(tmp_path / "prompts"))
    assert whole.normaliser.components == 5 and torch.equal(whole.encode(ages), context)
    with pytest.raises(ConditionerError, match="at least 6 distinct training reports, found 3. Ask for fewer"):
        few.fit_statistics(REPORTS)
    with pytest.raises(ConditionerError, match="components and noise are of the standardised context"):
        ReportConditioner(llama, standardise=False, components=2)


@pytest.mark.parametrize("count", [2, 3])
def test_components_by_record_hold_what_ridge_regression_reads_of_it(llama: tuple[Any, Any], count: int) -> None:
    """Against scikit-learn: the main components of its predictions are linear in ours, exactly, and ours are white."""
    ages = [f"{age}-year-old patient with a nodule of {age % 7} mm" for age in range(50, 74)]
    records = np.array([[age / 10, age % 7, age % 2, 1.0] for age in range(50, 74)])
    whole, few = ReportConditioner(llama), ReportConditioner(llama, components=count, components_by="record")
    whole.fit_statistics(ages)
    few.fit_statistics(ages, records)
    states, context = (each.encode(ages).flatten(1).double().numpy() for each in (whole, few))
    expected = PCA(count).fit_transform(Ridge(RECORD_PENALTY).fit(states, records).predict(states))
    coordinates = context @ torch.nn.functional.normalize(few.normaliser.directions, dim=1).double().numpy().T
    found = LinearRegression().fit(coordinates, expected).predict(coordinates)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(np.cov(coordinates.T), np.eye(count), atol=1e-3)
    assert np.linalg.matrix_rank(context, tol=1e-3) == count
    for useless in (None, records[1:]):
        with pytest.raises(ConditionerError, match="components_by='record' needs the same 24 cases' records"):
            few.fit_statistics(ages, useless)
    with pytest.raises(ConditionerError, match=f"differ in fewer than {count} numbers"):
        few.fit_statistics(ages, records[:, :1].repeat(4, axis=1))
    with pytest.raises(ConditionerError, match="components_by is 'size', expected 'variance' or 'record'"):
        ReportConditioner(llama, components_by="size")  # type: ignore[arg-type]


@pytest.mark.parametrize("components", [0, 5])
def test_noise_is_of_each_components_spread(llama: tuple[Any, Any], components: int) -> None:
    """In training mode alone; in a whitened context as large a share of every component, and nothing off them."""
    conditioner = ReportConditioner(llama, components=components, noise=0.5).requires_grad_(False)
    ages = [f"Age {age}, diameter {age % 7} mm." for age in range(40, 60)]
    conditioner.fit_statistics(ages)
    context = conditioner.eval()(ages)
    assert torch.equal(context, conditioner(ages)) and torch.equal(context, conditioner.train().encode(ages))
    torch.manual_seed(0)
    noise = torch.cat([conditioner(ages) - context for _ in range(200)]).flatten(1)
    if components:
        axes = torch.nn.functional.normalize(conditioner.normaliser.directions, dim=1)
        torch.testing.assert_close(noise @ axes.T @ axes, noise, atol=1e-4, rtol=0)
        noise = noise @ axes.T
    torch.testing.assert_close(noise.std(dim=0), torch.full_like(noise[0], 0.5), atol=0.05, rtol=0)
    assert torch.equal(conditioner.null_context(3), torch.zeros_like(context[:3])), "nothing on no report"
