#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./check believes what was written down and nothing else: results that are absent, empty, cut or
bad are failures, and so is a skip where everything must run."""
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))
import check  # noqa: E402
import results  # noqa: E402


def meson_log(*records):
    return '\n'.join(json.dumps(r) for r in records)


def record(name, result, stdout=''):
    return {'name': f'lazydisk:{name}', 'result': result, 'stdout': stdout}


CASE = '<testcase classname="tests.integration.test_x" name="a">%s</testcase>'
SUITE = '<testsuites><testsuite>%s</testsuite></testsuites>'

# parser, what the file holds (None: no file), exit code of the run, what is counted
CASES = (
    (results.meson, meson_log(record('lint / a', 'OK'), record('lint / b', 'FAIL')), 1,
     '1 passed, 1 failed'),
    (results.meson, meson_log(record('lint / a', 'TIMEOUT')), 1, '0 passed, 1 failed'),
    (results.meson, meson_log(record('lint / a', 'SKIP')), 0, '0 passed, 0 failed, 1 skipped'),
    (results.meson, meson_log(record('unit / a', 'OK', '1..2\nok 1 - x\nok 2 - y\n')), 0,
     '2 passed, 0 failed'),
    (results.meson, meson_log(record('unit / a', 'FAIL', '1..2\nok 1 - x\nnot ok 2 - y\n')), 1,
     '1 passed, 1 failed'),
    (results.meson, meson_log(record('unit / a', 'OK', '1..1\nok 1 - x # SKIP no\n')), 0,
     '0 passed, 0 failed, 1 skipped'),
    # It crashed after its first test.
    (results.meson, meson_log(record('unit / a', 'ERROR', '1..2\nok 1 - x\n')), 1,
     '1 passed, 1 failed'),
    # It passed every test, and then the leak checker spoke.
    (results.meson, meson_log(record('unit / a', 'ERROR', '1..1\nok 1 - x\n')), 1,
     '1 passed, 1 failed'),
    (results.meson, meson_log(record('unit / a', 'FAIL')), 1, '0 passed, 1 failed'),
    (results.meson, '', 0, '0 passed, 1 failed'),
    (results.meson, '{"name": "lazydisk:lint / a", "resu', 0, '0 passed, 1 failed'),
    (results.meson, None, 0, '0 passed, 1 failed'),
    # All that was written down passed, but the run was ended or failed.
    (results.meson, meson_log(record('lint / a', 'OK')), None, '1 passed, 1 failed'),
    (results.meson, meson_log(record('lint / a', 'OK')), 2, '1 passed, 1 failed'),
    (results.junit, SUITE % (CASE % ''), 0, '1 passed, 0 failed'),
    (results.junit, SUITE % (CASE % '<failure message="m"/>'), 1, '0 passed, 1 failed'),
    (results.junit, SUITE % (CASE % '<error message="m"/>'), 1, '0 passed, 1 failed'),
    (results.junit, SUITE % (CASE % '<skipped message="m"/><error message="m"/>'), 1,
     '0 passed, 1 failed'),
    (results.junit, SUITE % (CASE % '<skipped message="m"/>'), 0, '0 passed, 0 failed, 1 skipped'),
    (results.junit, SUITE % '', 5, '0 passed, 1 failed'),
    (results.junit, '<testsuites><tes', 1, '0 passed, 1 failed'),
    (results.junit, None, 4, '0 passed, 1 failed'),
)


def counted(folder, parse, text, code):
    path, log = os.path.join(folder, 'record'), os.path.join(folder, 'log')
    open(log, 'w', encoding='utf-8').close()
    if os.path.exists(path):
        os.unlink(path)
    if text is not None:
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
    return check.count(check.told('step', log, code, path, parse))


def skip_failures(folder):
    """How a skip counts where everything must run, by the list of admitted ones."""
    path = os.path.join(folder, 'skips')
    seen = []
    for text in ('# none\n', 'test_x::* because\n', 'test_y::* because\n'):
        with open(path, 'w', encoding='utf-8') as f:
            f.write(text)
        found = [results.Result('test_x::a', results.SKIPPED)]
        results.forbid_skips(found, results.admitted_skips(path))
        seen.append(found[0].outcome)
    with open(path, 'w', encoding='utf-8') as f:
        f.write('test_x::*\n')
    try:
        results.admitted_skips(path)
        seen.append('admitted without a reason')
    except ValueError:
        pass
    return seen


def main():
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for parse, text, code, expected in CASES:
            got = counted(folder, parse, text, code)
            if got != expected:
                wrong.append(f'{text!r}: {got}, not {expected}')
        seen = skip_failures(folder)
        if seen != [results.FAILED, results.SKIPPED, results.FAILED]:
            wrong.append(f'skips: {seen}')
        log = os.path.join(folder, 'slow')
        if check.run(log, ['sleep', '100'], 0.2) is not None:
            wrong.append('a command outlives its time')
        if check.run(log, ['false'], 10) != 1:
            wrong.append('the exit code of a command is lost')
    print('\n'.join(wrong) if wrong else f'{len(CASES)} kinds of results')
    sys.exit(1 if wrong else 0)


main()
