#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs somebody else's checker over the tree: run-checker.py CHECKER ROOT [BUILD]

BUILD, a build directory, is for those that want compile_commands.json. Exits 77 (skipped) when the
checker is not installed.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys

import tree


def run(root, argv):
    """Exit code and output of @argv, run in @root."""
    done = subprocess.run(argv, cwd=root, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def clang_format(root, build):
    paths = [f for f in tree.files(root, '.c', '.h') if not f.startswith('tests/data/')]
    return run(root, ['clang-format', '--dry-run', '-Werror', '--style=file'] + paths), len(paths)


def codespell(root, build):
    paths = tree.files(root, '.c', '.h', '.py', '.md', '.scd', 'meson.build', 'meson_options.txt')
    paths += tree.scripts(root, 'bash') + tree.scripts(root, 'sh')
    return run(root, ['codespell', '--ignore-words-list=' + ','.join(CODESPELL_WORDS)] + paths), \
        len(paths)


# Right in this project, and typos elsewhere.
CODESPELL_WORDS = ('conectix', 'dows', 'fo', 'te')


def shellcheck(root, build):
    paths = sorted(set(tree.scripts(root, 'bash') + tree.scripts(root, 'sh')))
    return run(root, ['shellcheck', '--external-sources', '--source-path=SCRIPTDIR'] + paths), \
        len(paths)


def pyflakes(root, build):
    paths = sorted(set(tree.files(root, '.py') + tree.scripts(root, 'python')))
    return run(root, ['pyflakes3'] + paths), len(paths)


def clang_tidy(root, build):
    """One process a file, as many at once as there are processors.

    The analyser follows a function through a third of the states that it would by default, in a
    third of the time.
    """
    paths = tree.product(root, '.c')
    worst, output = 0, []
    effort = [f'--extra-arg={a}' for a in ('-Xclang', '-analyzer-config', '-Xclang', 'max-nodes=75000')]

    def one(path):
        return run(root, ['clang-tidy', '--quiet', '-p', build] + effort + [path])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for code, text in pool.map(one, paths):
            if code:
                worst = code
                output.append(text)
    return (worst, ''.join(output)), len(paths)


# What cppcheck 2.10 does not know: system headers; that `*ret = &x->img` hands x over (the leak
# checker of the sanitizer builds finds real leaks); that `.src = in` initialises src; that NULL
# is a pointer here.
CPPCHECK_SUPPRESSED = ('missingIncludeSystem', 'unmatchedSuppression', 'memleak', 'legacyUninitvar',
                       'varFuncNullUB')


def cppcheck(root, build):
    argv = ['cppcheck', f'--project={build}/compile_commands.json', '--quiet', '--error-exitcode=1',
            '--enable=warning,performance,portability', '--inline-suppr', f'-j{os.cpu_count()}',
            '--std=c11', '--template={file}:{line}: {severity}: {message} [{id}]']
    argv += [f'--suppress={name}' for name in CPPCHECK_SUPPRESSED]
    # cmocka's assert_*() are macros around setjmp that it follows badly.
    argv += ['--suppress=*:*tests/unit/*']
    return run(root, argv), len(tree.product(root, '.c'))


CHECKERS = {
    'clang-format': (clang_format, 'clang-format'),
    'codespell': (codespell, 'codespell'),
    'shellcheck': (shellcheck, 'shellcheck'),
    'pyflakes': (pyflakes, 'pyflakes3'),
    'clang-tidy': (clang_tidy, 'clang-tidy'),
    'cppcheck': (cppcheck, 'cppcheck'),
}


def main(name, root, build=None):
    checker, program = CHECKERS[name]
    if not shutil.which(program):
        print(f'skipped: {program} is not installed')
        sys.exit(77)
    (code, output), looked_at = checker(root, build)
    print(output, end='')
    if not looked_at:
        print('nothing to look at: is this the root of the project?')
        sys.exit(1)
    if code:
        sys.exit(1)
    print(f'{looked_at} files')


main(*sys.argv[1:])
