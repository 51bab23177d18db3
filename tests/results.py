# SPDX-License-Identifier: Apache-2.0
"""Reads what meson and pytest wrote about their tests, for machines to read."""
import fnmatch
import json
import os
import re
import xml.etree.ElementTree

PASSED, FAILED, SKIPPED = 'passed', 'failed', 'skipped'


class Result:
    """One test, and why it did not pass."""

    def __init__(self, name, outcome, detail=''):
        self.name = name
        self.outcome = outcome
        self.detail = detail


_MESON = {'OK': PASSED, 'EXPECTEDFAIL': PASSED, 'SKIP': SKIPPED}
_TAP = re.compile(r'^(not )?ok\s+\d+\s*-?\s*([^#\n]*?)\s*(#\s*skip\b.*)?$', re.IGNORECASE)


def _tap(name, record):
    """A result for each test that a TAP program ran, and one more when it then failed as a whole."""
    results = []
    for line in record.get('stdout', '').splitlines():
        match = _TAP.match(line)
        if match:
            outcome = FAILED if match.group(1) else SKIPPED if match.group(3) else PASSED
            results.append(Result(f'{name}: {match.group(2)}', outcome))
    told = any(r.outcome == FAILED for r in results)
    if _MESON.get(record['result'], FAILED) == FAILED and not told:
        results.append(Result(name, FAILED, record['result']))
    return results


def meson(path):
    """The results in a testlog.json of `meson test`."""
    results = []
    with open(path, encoding='utf-8') as f:
        records = [json.loads(line) for line in f]
    for record in records:
        name = record['name'].rpartition(':')[2]
        tap = _tap(name, record) if record['name'].partition(' ')[0].endswith(':unit') else []
        if tap:
            results += tap
        else:
            outcome = _MESON.get(record['result'], FAILED)
            results.append(Result(name, outcome, record.get('stdout', '').strip()[-20000:]))
    return results


def junit(path):
    """The results in a --junitxml file of pytest."""
    results = []
    for case in xml.etree.ElementTree.parse(path).getroot().iter('testcase'):
        outcome, detail = PASSED, ''
        for tag in case:
            if tag.tag in ('failure', 'error'):
                outcome, detail = FAILED, tag.get('message', '')
            elif tag.tag == 'skipped' and outcome == PASSED:
                outcome, detail = SKIPPED, tag.get('message', '')
        module = case.get('classname', '').rpartition('.')[2]
        results.append(Result(f'{module}::{case.get("name")}', outcome, detail))
    return results


def admitted_skips(path):
    """The patterns of the list of admitted skips."""
    with open(path, encoding='utf-8') as f:
        rows = [line.split(None, 1) for line in f if line.strip() and not line.startswith('#')]
    for row in rows:
        if len(row) != 2:
            raise ValueError(f'{os.path.basename(path)}: {row[0]} has no reason')
    return [row[0] for row in rows]


def forbid_skips(results, patterns):
    """Turns each skip that no pattern admits into a failure."""
    for result in results:
        if result.outcome == SKIPPED and not any(
                fnmatch.fnmatchcase(result.name, p) for p in patterns):
            result.outcome = FAILED
            result.detail = f'skipped where everything must run: {result.detail}'
