#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""No function of the product is longer than the cap. Usage: check-functions.py ROOT (needs ctags)"""
import json
import shutil
import subprocess
import sys

import tree

FUNCTION_LINES = 70


def main(root):
    if not shutil.which('ctags'):
        print('skipped: ctags (universal-ctags) is not installed')
        sys.exit(77)
    paths = tree.product(root, '.c', '.h')
    tags = subprocess.run(
        ['ctags', '--output-format=json', '--fields=+ne', '--kinds-C=f', '--languages=C',
         '--langmap=C:.c.h', '-f', '-', '-L', '-'],
        input='\n'.join(paths), cwd=root, text=True, capture_output=True, check=True).stdout
    findings = tree.Findings()
    functions = 0
    for line in tags.splitlines():
        tag = json.loads(line)
        if 'end' not in tag:
            continue
        functions += 1
        length = tag['end'] - tag['line'] + 1
        if length > FUNCTION_LINES:
            findings.add(tag['path'], tag['line'],
                         f'{tag["name"]} has {length} lines: the cap is {FUNCTION_LINES}')
    findings.end(functions and len(paths))


main(sys.argv[1])
