# syntax=docker/dockerfile:1
FROM base
ENV greeting="hello"
# A lone here-document is the script of the shell.
RUN <<EOF
set -e
echo "$greeting" >/one
EOF
# With `#!` it is a program.
RUN <<-'program'
	#!/usr/bin/env sh
	echo two >/two
program
# Beside a command they are the shell's.
RUN cat <<one <<-'two' 3<<three >/all
1 $greeting
one
	2 $greeting
	two
3
three
# Files: expanded, quoted, with tabs cut off, and together with others.
COPY <<a.txt <<'b.txt' <<-c.txt plain /files/
"$greeting" 'it' ${none:-nobody} \$greeting \\
a.txt
"$greeting" 'it' ${none:-nobody} \$greeting \\
b.txt
		indented
	c.txt
ADD --chmod=0600 <<empty /d/
empty
ONBUILD RUN <<EOF
later
EOF
