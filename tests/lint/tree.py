#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the gates share: which files there are, C without its comments, and how a finding is told.

A gate prints one line a finding, FILE:LINE: what is wrong, and exits 1 when there was any.
"""
import os
import re
import sys

# The layers, lowest first. Product code lives only here.
LAYERS = ('core', 'sources', 'cache', 'formats', 'fusefs', 'tools')


def files(root, *suffixes):
    """Paths under @root, relative to it and sorted, that end in one of @suffixes.

    Build directories and hidden ones (except .ci) are not the project's text.
    """
    found = []
    for folder, names, leaves in os.walk(root):
        at_top = os.path.samefile(folder, root)
        names[:] = [n for n in names
                    if (not n.startswith('.') or n == '.ci') and n != '__pycache__'
                    and not (at_top and n.startswith('build'))]
        for leaf in leaves:
            path = os.path.relpath(os.path.join(folder, leaf), root)
            if path.endswith(suffixes) and not os.path.islink(os.path.join(folder, leaf)):
                found.append(path)
    return sorted(found)


def product(root, *suffixes):
    """The files of the layers alone: no tests."""
    return [f for f in files(root, *suffixes) if f.split('/')[0] in LAYERS]


def scripts(root, interpreter):
    """Files without a telling suffix whose first line names @interpreter."""
    found = []
    for path in files(root, ''):
        with open(os.path.join(root, path), 'rb') as f:
            first = f.readline(200)
        if first.startswith(b'#!') and re.search(rb'[/ ]' + interpreter.encode() + rb'\d*\b', first):
            found.append(path)
    return found


def read(root, path):
    with open(os.path.join(root, path), encoding='utf-8') as f:
        return f.read()


_TOKEN = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def bare_c(text):
    """@text with its block comments blank and its strings and characters empty; lines stay."""
    def blank(match):
        token = match.group(0)
        if token.startswith('/*'):
            return re.sub(r'[^\n]', ' ', token)
        return token[0] * 2
    return _TOKEN.sub(blank, text)


class Findings:
    """Collects what is wrong and ends the gate."""

    def __init__(self):
        self.count = 0

    def add(self, path, line, text):
        print(f'{path}:{line}: {text}')
        self.count += 1

    def end(self, looked_at):
        """A gate that looked at nothing has proved nothing: that is a failure, too."""
        if not looked_at:
            print('nothing to look at: is this the root of the project?')
            sys.exit(1)
        if self.count:
            print(f'{self.count} found in {looked_at} files')
            sys.exit(1)
        print(f'{looked_at} files')
        sys.exit(0)
