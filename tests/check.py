#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds lazydisk in every way that counts, and runs every gate and test.

Usage: ./check [PART...]

  lint         the gates over the text, and the analysers
  unit         unit tests, built with gcc; those of asan and tsan are built with clang
  integration  the command against real servers, images and kernels
  asan         unit and integration tests under AddressSanitizer and UBSanitizer
  tsan         unit tests, and the integration tests where threads meet, under ThreadSanitizer
  all          all of these: the default

The last line counts the tests: N passed, N failed. The exit code is 0 when none failed. Logs are in
build/check/. With CI=true or LAZYDISK_NO_SKIP=1 a test that skips itself fails, unless
tests/skips.txt admits it.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import results
from results import FAILED, PASSED, SKIPPED, Result

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, 'build', 'check')
PARTS = ('lint', 'unit', 'integration', 'asan', 'tsan')
# It should end within 45 minutes on two cores that do nothing else; a busy machine may take longer,
# and CI ends it after 90.
TOTAL_SECONDS = 82 * 60

GCC, CLANG, ASAN, TSAN = (os.path.join(ROOT, 'build', d)
                          for d in ('check-gcc', 'check-clang', 'asan', 'tsan'))
COMPILER = {GCC: 'gcc', CLANG: 'clang', ASAN: 'clang', TSAN: 'clang'}
SETUP = {
    GCC: [],
    CLANG: [],
    ASAN: ['-Db_sanitize=address,undefined', '-Db_lundef=false'],
    TSAN: ['-Db_sanitize=thread', '-Db_lundef=false'],
}
# What the caller's shell says must not change what is built or which tests run.
DROPPED = ('CC', 'CFLAGS', 'CPPFLAGS', 'LDFLAGS', 'MAKEFLAGS', 'MESON_TESTTHREADS', 'PYTHONPATH',
           'PYTHONHOME', 'PYTEST_ADDOPTS', 'LAZYDISK_CACHE_DIR', 'LD_PRELOAD')
# Build directories whose build failed: what is in them is not what was to be tested.
BROKEN = set()
BEGAN = float(os.environ.get('CHECK_BEGAN', time.time()))


def environment(extra):
    env = {k: v for k, v in os.environ.items() if k not in DROPPED}
    env['PATH'] = '/usr/sbin:/usr/bin:/sbin:/bin:' + env.get('PATH', '')
    env['LC_ALL'] = 'C.UTF-8'
    return env | extra


def start(log, argv, extra):
    """Starts @argv with its output in @log."""
    with open(log, 'ab') as out:
        out.write(('$ ' + ' '.join(argv) + '\n').encode())
        out.flush()
        return subprocess.Popen(argv, cwd=ROOT, env=environment(extra), stdin=subprocess.DEVNULL,
                                stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def run_together(commands, seconds, **extra):
    """Runs the (log, argv) of @commands at once. Exit codes; None where the time was over."""
    until = min(time.time() + seconds, max(time.time() + 5, BEGAN + TOTAL_SECONDS))
    processes, codes = [], []
    try:
        for log, argv in commands:
            processes.append(start(log, argv, extra))
        for process in processes:
            try:
                codes.append(process.wait(max(0, until - time.time())))
            except subprocess.TimeoutExpired:
                end(process)
                codes.append(None)
    except BaseException:
        for process in processes:
            end(process)
        raise
    return codes


def run(log, argv, seconds, **extra):
    return run_together([(log, argv)], seconds, **extra)[0]


def end(process):
    """Lets @process clean up behind itself, then ends what is left of its group."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def tail(path, lines=30):
    with open(path, encoding='utf-8', errors='replace') as f:
        return ''.join(f.readlines()[-lines:])


def build(name, log, where):
    """Configures and compiles @where, warnings being errors."""
    options = ['-Dwerror=true', '-Dtests=enabled'] + SETUP[where]
    if not os.path.exists(os.path.join(where, 'build.ninja')):
        shutil.rmtree(where, ignore_errors=True)
        options.insert(0, 'setup')
    else:
        options[:0] = ['setup', '--reconfigure']
    for argv in (['meson'] + options + [where, ROOT], ['ninja', '-k', '0', '-C', where]):
        if run(log, argv, 900, CC=COMPILER[where]) != 0:
            BROKEN.add(where)
            return [Result(name, FAILED, tail(log, 400))]
    return [Result(name, PASSED)]


def meson_test(name, log, where, suite, seconds):
    """Runs a suite that must not be empty."""
    if where in BROKEN and suite == 'unit':
        return [Result(name, FAILED, 'its build failed')]
    base = f'check-{suite}'
    record = os.path.join(where, 'meson-logs', f'{base}.json')
    if os.path.exists(record):
        os.unlink(record)
    code = run(log, ['meson', 'test', '-C', where, '--no-rebuild', '--suite', suite, '--logbase', base,
                     '--print-errorlogs'], seconds, **sanitizer_environment(where))
    return told(name, log, code, record, results.meson) + sanitizer_reports(name, where)


def paths(*names):
    return [f'tests/integration/test_{name}.py' for name in names]


# Two lanes for two processors, which take about as long as each other. In the second one is what
# mostly waits for time limits, and what is about formats and registries. Threads meet in some tests
# only; the sanitizer that watches them is the slowest.
SECOND = paths('http_faults', 'http_auth_tls', 'errors', 'cli', 'chains', 'images', 'qcow2_hostile',
               'qcow2_cases', 'registry', 'registry_disks', 'registry_matrix', 'tar', 'vdi', 'vhd',
               'vhdx', 'vmdk', 'xz_zstd')
LANES = {
    'second': SECOND,
    'first': ['tests/integration'] + [f'--ignore={path}' for path in SECOND],
}
TSAN_LANES = {
    'second': paths('http_faults'),
    'first': paths('cache', 'copy', 'mount', 'opening', 'random_reads'),
}


def pytest(name, log, where, select, seconds):
    """Runs those of the integration tests that @select admits."""
    if where in BROKEN:
        return [Result(name, FAILED, 'its build failed')]
    base = log[:-len('.log')]
    lanes = TSAN_LANES if where == TSAN else LANES
    commands = []
    for lane, files in lanes.items():
        for kind in ('log', 'xml'):
            if os.path.exists(f'{base}-{lane}.{kind}'):
                os.unlink(f'{base}-{lane}.{kind}')
        argv = ['/usr/bin/python3', '-m', 'pytest', '-p', 'no:cacheprovider', '-ra', '-v',
                '--durations=15', f'--junitxml={base}-{lane}.xml']
        commands.append((f'{base}-{lane}.log', argv + select + files))
    extra = sanitizer_environment(where) | {'LAZYDISK_BUILD': where}
    if where in (ASAN, TSAN):
        extra['LAZYDISK_SLOWNESS'] = '5'
    codes = run_together(commands, seconds, **extra)
    found = []
    for lane, code in zip(lanes, codes):
        found += told(f'{name}: {lane}', f'{base}-{lane}.log', code, f'{base}-{lane}.xml',
                      results.junit)
    return found + sanitizer_reports(name, where)


def told(name, log, code, record, parse):
    """The results in @record. Without any, or when the run failed and no test of it, one failure."""
    try:
        found = parse(record)
    except (OSError, ValueError, SyntaxError) as error:
        return [Result(name, FAILED, f'no results: {error}\n{tail(log)}')]
    if not found:
        return [Result(name, FAILED, f'no tests ran\n{tail(log)}')]
    if code is None:
        found.append(Result(name, FAILED, f'its time was over\n{tail(log)}'))
    elif code != 0 and not any(r.outcome == FAILED for r in found):
        found.append(Result(name, FAILED, f'exit code {code}\n{tail(log)}'))
    return found


def sanitizer_environment(where):
    """Daemons have no terminal: the sanitizers write to files, each of which is a failure."""
    if where not in (ASAN, TSAN):
        return {}
    to_file = f'log_path={where}/reports/report'
    # A mount whose image never answers ends without its stuck threads, on purpose: no leak.
    return {
        'ASAN_OPTIONS': f'{to_file}:detect_stack_use_after_return=1:strict_string_checks=1',
        'LSAN_OPTIONS': 'print_suppressions=0',
        'UBSAN_OPTIONS': f'{to_file}:halt_on_error=1:print_stacktrace=1',
        'TSAN_OPTIONS': f'{to_file}:halt_on_error=0:second_deadlock_stack=1:'
                        'report_thread_leaks=0',
    }


def sanitizer_reports(name, where):
    found = []
    for path in sorted(glob.glob(f'{where}/reports/report.*')):
        found.append(Result(f'{name}: {os.path.basename(path)}', FAILED, tail(path, 60)))
        os.rename(path, f'{LOGS}/{name.replace(" ", "-")}-{os.path.basename(path)}')
    return found


def prepare_reports(where):
    shutil.rmtree(f'{where}/reports', ignore_errors=True)
    os.makedirs(f'{where}/reports')


def sanitized(where, kind):
    """The steps of one sanitizer."""
    def unit(name, log):
        prepare_reports(where)
        return meson_test(name, log, where, 'unit', 1500)

    def integration(name, log):
        prepare_reports(where)
        return pytest(name, log, where, ['-m', 'not slow'], 2400)

    return [
        (f'build {kind}', (kind,), lambda name, log: build(name, log, where)),
        (f'unit {kind}', (kind,), unit),
        (f'integration {kind}', (kind,), integration),
    ]


# Name, the parts that it belongs to, what it does. What ends soonest comes first.
STEPS = [
    ('build gcc', ('lint', 'unit', 'integration'), lambda n, log: build(n, log, GCC)),
    ('lint', ('lint',), lambda n, log: meson_test(n, log, GCC, 'lint', 600)),
    ('unit gcc', ('unit',), lambda n, log: meson_test(n, log, GCC, 'unit', 900)),
    ('build clang', ('lint',), lambda n, log: build(n, log, CLANG)),
    ('analysis', ('lint',), lambda n, log: meson_test(n, log, CLANG, 'analysis', 1500)),
    ('integration', ('integration',), lambda n, log: pytest(n, log, GCC, [], 2400)),
] + sanitized(ASAN, 'asan') + sanitized(TSAN, 'tsan')


def step(name, work, strict):
    """Runs one step, prints one line and what failed, and returns its results."""
    log = os.path.join(LOGS, name.replace(' ', '-') + '.log')
    if os.path.exists(log):
        os.unlink(log)
    began = time.monotonic()
    print(f'{name:20}', end=' ', flush=True)
    if time.time() - BEGAN > TOTAL_SECONDS:
        found = [Result(name, FAILED, 'no time was left for it')]
    else:
        found = work(name, log)
    if strict:
        results.forbid_skips(found, results.admitted_skips(os.path.join(ROOT, 'tests', 'skips.txt')))
    print(f'{count(found):40} {time.monotonic() - began:5.0f} s', flush=True)
    for result in found:
        if result.outcome == FAILED:
            print(f'  FAILED {result.name}')
            print(''.join(f'    {line}\n' for line in brief(result.detail)), end='', flush=True)
    return found


def brief(text, most=40):
    """The lines of @text that say what is wrong; the log has all of it."""
    lines = list(dict.fromkeys(text.splitlines()))
    errors = [line for line in lines if re.search(r'error:|ERROR', line)]
    return lines if len(lines) <= most else errors[:most] or lines[-most:]


def count(found):
    n = {o: sum(r.outcome == o for r in found) for o in (PASSED, FAILED, SKIPPED)}
    skipped = f', {n[SKIPPED]} skipped' if n[SKIPPED] else ''
    return f'{n[PASSED]} passed, {n[FAILED]} failed{skipped}'


def main(arguments):
    if '--help' in arguments or '-h' in arguments:
        print(__doc__.strip())
        return 0
    unknown = [a for a in arguments if a not in PARTS + ('all',)]
    if unknown:
        print(f'check: no part is called {unknown[0]}; see ./check --help', file=sys.stderr)
        return 2
    parts = PARTS if not arguments or 'all' in arguments else arguments
    strict = os.environ.get('CI') == 'true' or os.environ.get('LAZYDISK_NO_SKIP') == '1'
    os.makedirs(LOGS, exist_ok=True)
    found = []
    for name, of, work in STEPS:
        if set(of) & set(parts):
            found += step(name, work, strict)
    summary([r for r in found if r.outcome == FAILED], 'FAILED')
    summary([r for r in found if r.outcome == SKIPPED], 'skipped')
    print()
    print(f'in {time.time() - BEGAN:.0f} s; logs: build/check/')
    print(count(found))
    return 0 if found and not any(r.outcome == FAILED for r in found) else 1


def summary(found, word):
    if found:
        print()
    for result in found:
        last = brief(result.detail.strip())[-1:] or ['']
        print(f'{word}: {result.name}: {last[0][:200]}')


if __name__ == '__main__':
    # Somebody's background job is born deaf to SIGINT, and so would be what the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print('\ncheck: interrupted', file=sys.stderr)
        sys.exit(130)
