"""The rows of a run: added as they are measured, selected, and their medians with ranges."""
import statistics


class Rows:
    def __init__(self, rows=()):
        self.rows = list(rows)

    def add(self, part, what, who, sessions, run, figures):
        self.rows.append(dict(part=part, what=what, who=who, sessions=sessions, run=run, **figures))

    def select(self, part, **wanted):
        return [row for row in self.rows if row["part"] == part and
                all(row[key] == value for key, value in wanted.items())]

    def lines(self, part, what):
        """(who, sessions) in the order in which they first came."""
        return list(dict.fromkeys((row["who"], row["sessions"])
                                  for row in self.select(part, what=what)))

    def kinds(self, part):
        return list(dict.fromkeys(row["what"] for row in self.select(part)))

    def values(self, part, key, **wanted):
        return [row[key] for row in self.select(part, **wanted) if key in row]

    def median(self, part, key, **wanted):
        """None where no row has it."""
        values = self.values(part, key, **wanted)
        return statistics.median(values) if values else None

    def range(self, part, key, **wanted):
        """(median, least, most), or None."""
        values = self.values(part, key, **wanted)
        return (statistics.median(values), min(values), max(values)) if values else None

    def reason(self, part, **wanted):
        """Why there are no figures, or ""."""
        reasons = [row["failed"] for row in self.select(part, **wanted) if "failed" in row]
        return reasons[-1] if reasons else ""
