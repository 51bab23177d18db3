#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check-man.py passes pages that agree with --help and refuses each way in which they may not."""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

HELP = 'Usage\n\n  look     look at things\n'
VERB_HELP = '''Usage

General:
      --far FILE              look far
      --how a|b               look so
  -v, --verbose               say more
'''
OVERVIEW = '# VERBS\n\n*look*\n\tLook at things.\n\n# EXIT STATUS\n\n*0*\n\tDone.\n'
PAGE = ('# OPTIONS\n\n*--far* _FILE_\n\tLook far.\n\n*--how* *a*|*b*\n\tSo.\n\n'
        '*-v*, *--verbose*\n\tMore.\n\n# SEE ALSO\n\n*--else* _FILE_\n')

BAD = (
    (HELP, VERB_HELP, OVERVIEW, PAGE.replace('*--far* _FILE_', '*--near* _FILE_'), '--far is in'),
    (HELP, VERB_HELP, OVERVIEW, PAGE.replace('_FILE_', '_DIR_', 1), '--far: '),
    (HELP, VERB_HELP, OVERVIEW, PAGE.replace('*-v*, ', ''), '--verbose: '),
    (HELP, VERB_HELP + '      --new                   be new\n', OVERVIEW, PAGE, '--new is in'),
    (HELP, VERB_HELP.replace('look far', 'look far' * 9), OVERVIEW, PAGE, 'wider than'),
    (HELP, 'nothing\n', OVERVIEW, '# OPTIONS\n', 'was understood'),
    (HELP + '  hear     listen\n', VERB_HELP, OVERVIEW, PAGE, 'verbs: '),
    (HELP, VERB_HELP, OVERVIEW, None, 'no such page'),
)


def check(helps, verb_help, overview, page):
    """Exit code and output of the gate over a command and pages that say these things."""
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(os.path.join(root, 'man'))
        texts = {'top': helps, 'verb': verb_help, 'man/lazydisk.1.scd': overview,
                 'man/lazydisk-look.1.scd': page}
        for path, text in texts.items():
            if text is not None:
                with open(os.path.join(root, path), 'w', encoding='utf-8') as f:
                    f.write(text)
        command = os.path.join(root, 'lazydisk')
        with open(command, 'w', encoding='utf-8') as f:
            f.write('#!/bin/sh\nif [ "$1" = --help ]; then f=top; else f=verb; fi\n'
                    'cat "${0%/*}/$f"\n')
        os.chmod(command, 0o755)
        done = subprocess.run([sys.executable, f'{HERE}/check-man.py', root, command], text=True,
                              check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout


def main():
    code, output = check(HELP, VERB_HELP, OVERVIEW, PAGE)
    wrong = [f'agreement is refused: {output}'] if code else []
    for *texts, says in BAD:
        code, output = check(*texts)
        if code != 1 or says not in output:
            wrong.append(f'should be refused with "{says}", got {code}: {output}')
    print('\n'.join(wrong) or f'{len(BAD)} faults found')
    sys.exit(bool(wrong))


main()
