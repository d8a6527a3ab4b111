import pytest

from latentdiff.report.curves import (
    different_numbers_of_samples,
    lead_over_time,
    quality_over_own_time,
    quality_over_time,
)
from latentdiff.report.evaluation import read_evaluation
from latentdiff.report.lead import find_lead
from latentdiff.report.page import _how_to_compare


@pytest.mark.parametrize(
    ("latent", "pixel", "start", "sentence", "crossing"),
    [
        (
            [(60, 3.0), (120, 1.0)],
            [(60, 9.0), (120, 5.0)],
            0,
            "Without the autoencoder's time, latent is ahead at every measurement.",
            None,
        ),
        (
            [(60, 9.0), (120, 5.0)],
            [(60, 3.0), (120, 1.0)],
            0,
            "Without the autoencoder's time, pixel is ahead at every measurement.",
            None,
        ),
        # Measured in turn: at 90 s both have been, and latent is behind until 180 s.
        (
            [(60, 9.0), (180, 1.0)],
            [(90, 3.0), (200, 2.0)],
            0,
            "Without the autoencoder's time, pixel is ahead at first, and latent from 3 min on.",
            180,
        ),
        # The pixel training has ended before the autoencoder's, and its last model stays as good as it is.
        (
            [(700, 4.0), (800, 1.0)],
            [(100, 3.0), (200, 2.0)],
            600,
            "With the autoencoder's 10 min counted, pixel is ahead at first, and latent from 13 min on.",
            800,
        ),
        (
            [(700, 1.0)],
            [(100, 3.0), (200, 2.0)],
            600,
            "With the autoencoder's 10 min counted, pixel is ahead at first, and latent from 12 min on.",
            700,
        ),
        # A short autoencoder: latent is measured before pixel.
        (
            [(120, 1.0)],
            [(600, 5.0)],
            60,
            "With the autoencoder's 60 s counted, latent is ahead at every measurement.",
            None,
        ),
        (
            [(120, 1.0)],
            [(100, 2.0), (300, 0.5)],
            60,
            "With the autoencoder's 60 s counted, the lead changes 2 times, the last time after 5 min, to pixel.",
            300,
        ),
        (
            [(700, 4.0)],
            [(100, 3.0)],
            600,
            "With the autoencoder's 10 min counted, pixel is ahead at every measurement.",
            None,
        ),
        (
            [(10, 5.0), (30, 3.0)],
            [(10, 6.0), (20, 4.0)],
            0,
            "Without the autoencoder's time, the lead changes 2 times, the last time after 30 s, to latent.",
            30,
        ),
    ],
)
def test_a_lead_is_told_from_the_best_that_each_had_reached(latent, pixel, start, sentence, crossing):
    lead = find_lead(latent[::-1], pixel, start)
    assert lead is not None
    assert lead.sentence() == sentence
    assert lead.crossing == crossing


def test_a_worse_later_value_loses_no_lead_and_equal_ones_are_none():
    lead = find_lead([(10, 1.0), (20, 8.0)], [(10, 2.0), (20, 2.0)])
    assert lead is not None
    assert lead.changes == [(10, "latent")]
    assert find_lead([(10, 1.0)], [(10, 1.0)]) is None
    assert find_lead([(10, 1.0)], []) is None


def test_the_figures_tell_it_with_the_autoencoder_and_without(write, monkeypatch):
    latent = read_evaluation(write("latent", "diffusion", 9.0, 180.0, 600.0))
    pixel = read_evaluation(write("pixel", "diffusion", 12.0, 180.0))
    worse = read_evaluation(write("pixel-worse", "diffusion", 90.0, 180.0))
    evaluations = [latent, worse, pixel]
    counted, own = (lead_over_time(evaluations, counted) for counted in (True, False))
    # Histories of the FID over 1, 2 and 3, after each minute: pixel ends at 4, latent begins with 9 at 660 s.
    assert counted is not None
    assert counted.changes == [(60.0, "pixel"), (780.0, "latent")]
    assert own is not None
    assert own.changes == [(60.0, "latent")]
    assert lead_over_time([latent], counted=True) is None
    figures = []
    monkeypatch.setattr("latentdiff.report.curves.render", lambda figure, _: figures.append(figure) or b"")
    quality_over_time(evaluations)
    quality_over_own_time(evaluations)
    marks = [[line for line in figure.axes[0].lines if list(line.get_xdata()) == [13.0, 13.0]] for figure in figures]
    assert [len(found) for found in marks] == [1, 0]
    assert quality_over_own_time([pixel]) is None


def test_nothing_is_told_of_models_that_were_not_measured_alike_or_of_an_unknown_autoencoder(write):
    def of_samples(count):
        def change(values):
            values["training"]["config"] = {"quality_images": count}

        return change

    pixel = read_evaluation(write("pixel", "diffusion", 12.0, 180.0, change=of_samples(100)))
    alike = read_evaluation(write("latent", "diffusion", 9.0, 180.0, 600.0, change=of_samples(100)))
    fewer = read_evaluation(write("latent-fewer", "diffusion", 9.0, 180.0, 600.0, change=of_samples(50)))
    unknown = read_evaluation(write("latent-unknown", "diffusion", 9.0, 180.0, change=of_samples(100)))
    assert lead_over_time([alike, pixel], counted=True)
    assert lead_over_time([fewer, pixel], counted=True) is None
    assert lead_over_time([unknown, pixel], counted=True) is None
    assert lead_over_time([unknown, pixel], counted=False)
    better = read_evaluation(write("latent-better", "diffusion", 6.0, 180.0, 600.0, change=of_samples(100)))
    named = lead_over_time([alike, better, pixel], counted=False)
    assert named is not None
    assert named.sentence() == "Without the autoencoder's time, latent-better is ahead at every measurement."
    assert different_numbers_of_samples([alike, fewer, pixel]) == [50, 100]
    assert different_numbers_of_samples([alike, pixel]) == []
    for items, words in (([fewer, pixel], "of 50 and 100 samples"), ([alike, pixel], "Compare the curves with each")):
        assert words in _how_to_compare(items)
