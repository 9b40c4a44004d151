"""What a run must have touched: every store, language and pair of languages of the capability table.

The stores are the rows of README's table of capabilities, the languages the columns of its table of
defaults, and the tests are counted by what the behaviour and the end-to-end suite print of each.
"""

import collections
import itertools
import re

# `test STORE::…`, of the end-to-end suite `test STORE::LANGUAGE::…` and `test STORE::ONE_to_OTHER`.
TEST = re.compile(r"^test ([a-z][a-z0-9_+-]*)::(\S+) +\.\.\. ok$", re.M)
PAIR = re.compile(r"^([a-z]+)_to_([a-z]+)$")


def table(text: str, name: str) -> list[list[str]]:
    """The cells of a table of README, its line of dashes left out."""
    part = text.split(f"<!-- table: {name} -->\n")[1].split("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.strip().splitlines()]
    return rows[:1] + rows[2:]


class Covered:
    """Counts the executed tests of one run."""

    def __init__(self, readme: str):
        capabilities = table(readme, "capabilities")[1:]
        # The store's name, and whether another process reaches it.
        self.stores = {row[0].strip("`").rstrip(":"): row[1] != "process" for row in capabilities}
        self.languages = [name.lower() for name in table(readme, "defaults")[0][1:]]
        self.behavior = collections.Counter()
        self.by_language = collections.Counter()
        self.by_pair = collections.Counter()
        self.suites = collections.Counter()

    def add(self, suite: str, groups: list[str], passed: int, text: str) -> None:
        own = set(groups) & set(self.languages)
        if len(own) == 1:  # a suite of several does not say how much was of which
            self.suites[own.pop()] += passed
        for store, test in TEST.findall(text):
            if suite in ("behavior", "behavior-local"):
                self.behavior[store] += 1
            elif suite == "e2e" and (pair := PAIR.match(test)):
                self.by_pair[(store, *pair.groups())] += 1
            elif suite == "e2e":
                self.by_language[store, test.split("::")[0]] += 1

    def missing(self):
        """What has no executed test."""
        for store, shared in self.stores.items():
            if not self.behavior[store]:
                yield f"the behaviour suite executed nothing on {store}"
            for language in self.languages:
                if not self.by_language[store, language]:
                    yield f"the end-to-end suite executed nothing in {language} on {store}"
            for one, other in itertools.product(self.languages, repeat=2):
                if shared and not self.by_pair[store, one, other]:
                    yield f"the end-to-end suite executed nothing from {one} to {other} on {store}"
        for language in self.languages:
            if not self.suites[language]:
                yield f"no suite of {language} executed a test"

    def not_run(self):
        """The stores without an executed test of behaviour, and the suites of other languages without any."""
        stores = [store for store in self.stores if not self.behavior[store]]
        return stores + [f"the suites of {name}" for name in self.languages if name != "rust" and not self.suites[name]]

    def totals(self):
        """Lines for a person: per store, per language, per pair."""
        yield "\nper store        behaviour  end to end  pairs"
        for store in sorted({*self.stores, *self.behavior}):
            alone = sum(count for key, count in self.by_language.items() if key[0] == store)
            pairs = sum(count for key, count in self.by_pair.items() if key[0] == store)
            yield f"{store:16} {self.behavior[store]:9} {alone:11} {pairs:6}"
        yield "\nper language     in its suites  end to end  pairs it is in"
        for language in self.languages:
            alone = sum(count for key, count in self.by_language.items() if key[1] == language)
            pairs = sum(count for key, count in self.by_pair.items() if language in key[1:])
            yield f"{language:16} {self.suites[language]:13} {alone:11} {pairs:15}"
        yield "\nper pair (holder down, contender across)"
        yield " " * 8 + "".join(f"{other:>8}" for other in self.languages)
        for one in self.languages:
            counts = (sum(self.by_pair[store, one, other] for store in self.stores) for other in self.languages)
            yield f"{one:8}" + "".join(f"{count:8}" for count in counts)
