#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom, and which library belongs to which folder.

tools -> {sources, formats, cache, fusefs} -> core. Siblings never see each other; of another folder
one sees only its faces (of core: all headers). Usage: check-layers.py ROOT
"""
import os
import re
import sys

import tree

SIBLINGS = ('sources', 'cache', 'formats', 'fusefs')
MAY_SEE = {'core': ()} | {s: ('core',) for s in SIBLINGS} | {'tools': ('core',) + SIBLINGS}
FACES = {'sources': ('source.h',), 'cache': ('cache.h', 'overlay.h'), 'formats': ('format.h',),
         'fusefs': ('fusefs.h',)}

# What stands in <...> or in dependency('...'), and the only folders that may say it.
LIBRARIES = (
    (r'curl/', r'libcurl', ('sources',)),
    (r'openssl/', r'openssl|libssl|libcrypto', ('sources',)),
    (r'jansson\.h', r'jansson', ('sources', 'tools')),
    (r'fuse|fuse3/', r'fuse3?', ('fusefs',)),
    (r'zlib\.h', r'zlib', ('formats',)),
    (r'libdeflate\.h', r'libdeflate', ('formats',)),
    (r'isa-l', r'libisal', ('formats',)),
    (r'lzma', r'liblzma', ('formats',)),
    (r'zstd|zdict', r'libzstd', ('formats',)),
    (r'xxhash|xxh3', r'libxxhash|xxhash', ('cache', 'formats')),
    (r'yaml\.h', r'yaml-0\.1|libyaml', ('tools',)),
)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
DEPENDENCY = re.compile(r"(?:dependency|find_library)\(\s*'([^']+)'")


def line_of(text, match):
    return text.count('\n', 0, match.start()) + 1


def own_include(root, folder, target):
    """Why @folder may not include "@target", or None."""
    if not os.path.isfile(os.path.join(root, target)):
        return f'"{target}" is not a path from the root of the project'
    other, _, rest = target.partition('/')
    if other == folder or folder == 'tests':
        return None
    if other not in MAY_SEE[folder]:
        return f'{folder}/ may not include {other}/'
    if other != 'core' and rest not in FACES[other]:
        return f'{target} is private to {other}/; its face is {other}/{FACES[other][0]}'
    return None


def library(folder, name, column):
    """Why @folder may not use the library @name, or None. @column: 0 header, 1 dependency."""
    for row in LIBRARIES:
        whole = row[column] if column == 0 else f'(?:{row[column]})$'
        if re.match(whole, name) and folder not in row[2]:
            return f'{name} belongs to {" and ".join(f + "/" for f in row[2])}'
    return None


def main(root):
    findings = tree.Findings()
    sources = [f for f in tree.files(root, '.c', '.h') if f.split('/')[0] in tree.LAYERS + ('tests',)]
    for path in sources:
        text = tree.read(root, path)
        folder = path.split('/')[0]
        for match in INCLUDE.finditer(text):
            if match.group(1) == '"':
                why = own_include(root, folder, match.group(2))
            else:
                why = None if folder == 'tests' else library(folder, match.group(2), 0)
            if why:
                findings.add(path, line_of(text, match), why)
    builds = [f for f in tree.product(root, 'meson.build')]
    for path in builds:
        text = tree.read(root, path)
        for match in DEPENDENCY.finditer(text):
            why = library(path.split('/')[0], match.group(1), 1)
            if why:
                findings.add(path, line_of(text, match), why)
    findings.end(len(sources) and len(sources) + len(builds))


main(sys.argv[1])
