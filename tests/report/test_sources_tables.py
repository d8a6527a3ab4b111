from latentdiff.report import sources_tables
from latentdiff.report.evaluation import read_evaluation


def test_published_figures_stand_beside_every_model_that_has_them(write):
    def class_mean(values):
        values["metrics"]["inception"]["per_class_mean"] = 71.92

    def unmeasured(values):
        values["metrics"]["inception"] = None

    plain, of_class, other, blind = (
        read_evaluation(write(name, "diffusion", 9.0, 60.0, change=change))
        for name, change in (("plain", None), ("of_class", class_mean), ("other", None), ("blind", unmeasured))
    )
    latent = read_evaluation(write("latent", "diffusion", 7.0, 60.0, change=class_mean))
    noise = read_evaluation(write("noise", "noise", 400.0))
    projects = {"plain": (2, ""), "of_class": (2, ""), "blind": (2, ""), "other": (1, "")}
    found = {"sources": [plain, of_class, other, blind], "released": [noise, latent]}
    rows = [line.split(" | ") for line in sources_tables.published_table(found, projects).splitlines() if "`" in line]
    assert [[row[0].strip("| `"), row[2], row[3].rstrip(" |")] for row in rows] == [
        ["plain", "107", "9.00"],
        ["of_class", "107", "9.00"],
        ["latent", "107", "7.00"],
        ["of_class", "87.8", "71.92"],
        ["latent", "87.8", "71.92"],
    ]
    assert sources_tables.published_table({"sources": [blind], "released": []}, projects) == ""
