"""Metrics as tests read them: by the parser of Prometheus's own library."""

from prometheus_client.parser import text_string_to_metric_families


class Samples:
    """The samples of a text; `of("lakegate_rows_total", source="retail")` sums those with these labels."""

    def __init__(self, text: bytes | str) -> None:
        document = text.decode() if isinstance(text, bytes) else text
        self.families = list(text_string_to_metric_families(document))
        self.all = [(s.name, s.labels, s.value) for family in self.families for s in family.samples]

    def of(self, name: str, **labels: str) -> float:
        found = [value for n, own, value in self.all if n == name and labels.items() <= own.items()]
        assert found, f"{name} {labels} is not there"
        return sum(found)

    def has(self, name: str, **labels: str) -> bool:
        return any(n == name and labels.items() <= own.items() for n, own, _ in self.all)
