#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that a line of text shows: sizes, banned calls, unfinished work, licences.

Usage: check-source.py ROOT
"""
import re
import sys

import tree

FILE_LINES = 700

EVERYWHERE = (
    (r'\b(strcpy|strcat|sprintf|vsprintf|gets|alloca|system|popen)\s*\(', 'this call is banned'),
    (r'\btypedef\s+(?:struct|union)\b', 'structs are not hidden behind typedefs'),
    (r'//', 'comments are written /* like this */'),
)
OUTSIDE_TOOLS = (
    (r'\b(exit|quick_exit)\s*\(', 'library code does not end the process'),
    (r'\b(printf|vprintf|puts|putchar|perror|psignal)\s*\(', 'library code does not print'),
    (r'\bf(?:printf|puts|putc|write)\s*\([^;]*\bstd(?:out|err)\b', 'library code does not print'),
)
HEADERS = (
    (r'\b(off_t|off64_t|long)\b', 'interfaces have uint64_t offsets and fixed sizes'),
)
# Written so that they do not find themselves.
UNFINISHED = re.compile(r'\b(?:TO[D]O|FIX[M]E|X[X]X)\b|not imple[m]ented|unimple[m]ented')
ELSEWHERE = re.compile(r'/hom[e]/[a-z]+/')
SPDX = 'SPDX-License-Identifier: Apache-2.0'


def check_patterns(findings, path, text, rules):
    for number, line in enumerate(text.split('\n'), 1):
        for pattern, why in rules:
            match = re.search(pattern, line)
            if match:
                findings.add(path, number, f'{match.group(0).strip()}: {why}')


def check_c(findings, path, text):
    folder = path.split('/')[0]
    in_product = folder in tree.LAYERS
    bare = tree.bare_c(text)
    rules = EVERYWHERE
    if in_product and folder != 'tools' and path != 'core/log.c':
        rules += OUTSIDE_TOOLS
    if in_product and path.endswith('.h'):
        rules += HEADERS
    check_patterns(findings, path, bare, rules)
    lines = text.split('\n')
    if in_product and not (len(lines) > 1 and lines[1].startswith('/*')):
        findings.add(path, 2, 'the file does not begin with what it is for')


def check_any(findings, path, text):
    lines = text.split('\n')
    if len(lines) - 1 > FILE_LINES:
        findings.add(path, FILE_LINES + 1, f'{len(lines) - 1} lines: the cap is {FILE_LINES}')
    if not any(SPDX in line for line in lines[:2]):
        findings.add(path, 1, f'no "{SPDX}"')


def check_words(findings, path, text):
    for number, line in enumerate(text.split('\n'), 1):
        if UNFINISHED.search(line):
            findings.add(path, number, 'unfinished work is not committed')
        if ELSEWHERE.search(line):
            findings.add(path, number, 'a path that exists on one machine only')


def main(root):
    findings = tree.Findings()
    c_files = tree.files(root, '.c', '.h')
    sources = set(c_files) | set(tree.files(root, '.py', '.sh'))
    for interpreter in ('bash', 'sh', 'python'):
        sources |= set(tree.scripts(root, interpreter))
    words = set(tree.files(root, '.md', '.scd', 'meson.build', '.txt'))
    for path in sorted(sources | words):
        text = tree.read(root, path)
        check_words(findings, path, text)
        if path in sources:
            check_any(findings, path, text)
        if path in c_files:
            check_c(findings, path, text)
    findings.end(len(sources))


main(sys.argv[1])
