FROM base
COPY <<EOF <<EOF2
x
EOF
y
EOF2
COPY << FILE /a
FILE
COPY <<'a b' /a
a b
ADD a <<FILE
FILE
ONBUILD ADD <<x /d
y
x
RUN <<never
the file ends first
