#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each gate passes a good tree and refuses a bad one, with the words that name the fault.

Usage: selftest.py ROOT (for the settings of the checkers)
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HEAD = '/* SPDX-License-Identifier: Apache-2.0 */\n/* An example. */\n'
SCRIPT = '#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\n'

GOOD = {
    'core/a.h': HEAD + '#include <stdint.h>\nuint64_t a_size(const char *text);\n',
    'core/a.c': HEAD + '#include "core/a.h"\n\nuint64_t a_size(const char *text)\n{\n'
                       '\treturn text ? 1 : 0;\n}\n',
    'cache/cache.h': HEAD,
    'cache/map.h': HEAD,
    'tools/main.c': HEAD + '#include "cache/cache.h"\n#include "core/a.h"\n',
    'run': SCRIPT + 'echo "$1"\n',
    'README.md': '[a](core/a.c)\n\n    core/   shared\n',
    'tests/x.py': SCRIPT.replace('/bin/bash', '/usr/bin/python3') + 'print(1)\n',
}

LONG_BODY = HEAD + 'int f(int a);\nint f(int a)\n{\n' + '\ta++;\n' * 80 + '\treturn a;\n}\n'

# gate, file, its content, what the gate says
BAD = (
    ('layers', 'core/b.c', HEAD + '#include "cache/cache.h"\n', 'core/ may not include cache/'),
    ('layers', 'cache/b.c', HEAD + '#include "sources/s.h"\n', 'not a path from the root'),
    ('layers', 'formats/b.c', HEAD + '#include "cache/cache.h"\n',
     'formats/ may not include cache/'),
    ('layers', 'tools/b.c', HEAD + '#include "cache/map.h"\n', 'private to cache/'),
    ('layers', 'core/b.c', HEAD + '#include "a.h"\n', 'not a path from the root'),
    ('layers', 'cache/b.c', HEAD + '#include <curl/curl.h>\n', 'belongs to sources/'),
    ('layers', 'formats/b.c', HEAD + '#include <jansson.h>\n', 'belongs to sources/ and tools/'),
    ('layers', 'core/meson.build', "x = dependency('libzstd')\n", 'belongs to formats/'),
    ('source', 'core/b.c', HEAD + '\n' * 701, 'the cap is 700'),
    ('source', 'core/b.c', '/* An example. */\n', 'no "SPDX'),
    ('source', 'tests/b.py', 'print(1)\n', 'no "SPDX'),
    ('source', 'go', '#!/bin/sh\necho\n', 'no "SPDX'),
    ('source', 'core/b.c', HEAD.split('\n')[0] + '\nint b;\n', 'does not begin with what it is'),
    ('source', 'tools/b.c', HEAD + 'x = strcpy(a, b);\n', 'banned'),
    ('source', 'tests/unit/b.c', HEAD + 'x = popen (a, b);\n', 'banned'),
    ('source', 'cache/b.c', HEAD + 'void f(void) { exit(1); }\n', 'does not end the process'),
    ('source', 'cache/b.c', HEAD + 'void f(void) { printf("x"); }\n', 'does not print'),
    ('source', 'cache/b.c', HEAD + 'void f(void) { fprintf(stderr, "x"); }\n', 'does not print'),
    ('source', 'core/b.h', HEAD + 'int f(off_t n);\n', 'uint64_t offsets'),
    ('source', 'core/b.c', HEAD + 'typedef struct b b;\n', 'typedefs'),
    ('source', 'core/b.c', HEAD + 'int b; // why\n', 'comments are written'),
    ('source', 'core/b.c', HEAD + '/* TO' 'DO: more */\n', 'unfinished work'),
    ('source', 'notes.md', 'This is not imple' 'mented.\n', 'unfinished work'),
    ('source', 'notes.md', 'see /ho' 'me/anna/x\n', 'one machine'),
    ('functions', 'core/b.c', LONG_BODY, 'f has 84 lines'),
    ('docs', 'core/README.md', 'see [b](b.c)', 'b.c does not exist'),
    ('docs', 'notes.md', 'The tree:\n\n    more/   things\n', 'more/ does not exist'),
    ('clang-format', 'core/b.c', HEAD + 'int  b( void );\n', 'clang-format'),
    ('codespell', 'core/b.c', HEAD + '/* recie' 've */\n', 'receive'),
    ('shellcheck', 'run', SCRIPT + 'rm $1\n', 'SC2086'),
    ('pyflakes', 'tests/b.py', 'import os\n', 'imported but unused'),
    ('clang-tidy', 'core/a.c', HEAD + 'int f(int a);\nint f(int a)\n{\n\tif (a)\n\t\treturn 1;\n'
                                      '\treturn 0;\n}\n', 'braces-around-statements'),
    ('cppcheck', 'core/a.c', HEAD + 'int f(void);\nint f(void)\n{\n\tint *p = 0;\n'
                                    '\treturn *p;\n}\n', 'nullPointer'),
)

OWN = ('layers', 'source', 'functions', 'docs')
CHECKERS = ('clang-format', 'codespell', 'shellcheck', 'pyflakes', 'clang-tidy', 'cppcheck')


def run_gate(gate, tree):
    """Exit code and output of @gate over @tree ({path: text}) in a directory of its own."""
    with tempfile.TemporaryDirectory() as root:
        for name in ('.clang-format', '.clang-tidy'):
            shutil.copy(os.path.join(PROJECT, name), root)
        for path, text in tree.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), 'w', encoding='utf-8') as f:
                f.write(text)
        commands = [{'directory': root, 'file': f'{root}/{path}', 'command': f'cc -I{root} -c {path}'}
                    for path in tree if path.endswith('.c')]
        with open(os.path.join(root, 'compile_commands.json'), 'w', encoding='utf-8') as f:
            json.dump(commands, f)
        if gate in OWN:
            argv = [f'{HERE}/check-{gate}.py', root]
        else:
            argv = [f'{HERE}/run-checker.py', gate, root, root]
        done = subprocess.run([sys.executable] + argv, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout


def main():
    wrong, absent = [], set()
    for gate in OWN + CHECKERS:
        code, output = run_gate(gate, GOOD)
        if code == 77:
            absent.add(gate)
        elif code:
            wrong.append(f'{gate} refuses a good tree: {output}')
        code, output = run_gate(gate, {})
        if gate not in absent and code != 1:
            wrong.append(f'{gate} accepts an empty tree')
    for gate, path, text, says in BAD:
        if gate in absent:
            continue
        code, output = run_gate(gate, GOOD | {path: text})
        if code != 1 or says not in output:
            wrong.append(f'{gate}: {path} should be refused with "{says}", got {code}: {output}')
    if wrong:
        print('\n'.join(wrong))
        sys.exit(1)
    if absent:
        print('skipped: not installed: ' + ', '.join(sorted(absent)))
        sys.exit(77)
    print(f'{len(BAD)} faults found')


PROJECT = sys.argv[1]
main()
