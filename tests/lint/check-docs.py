#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The links of the Markdown pages lead somewhere, and the folders that they draw exist.

Usage: check-docs.py ROOT
"""
import os
import re
import sys

import tree

LINK = re.compile(r'\]\(([^)#:\s]+)(?:#[^)]*)?\)')
FOLDER = re.compile(r'^(?: {4}|\| `)([a-z]+/)[ `]')


def main(root):
    findings = tree.Findings()
    pages = tree.files(root, '.md')
    for path in pages:
        folder = os.path.join(root, os.path.dirname(path))
        for number, line in enumerate(tree.read(root, path).split('\n'), 1):
            drawn = FOLDER.match(line)
            targets = LINK.findall(line) + ([drawn.group(1)] if drawn else [])
            for target in targets:
                if not os.path.exists(os.path.join(folder, target)):
                    findings.add(path, number, f'{target} does not exist')
    findings.end(len(pages))


main(sys.argv[1])
