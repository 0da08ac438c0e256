FROM base
COPY <<../up /a
x
../up
COPY <<a /d
${x?is not set}
a
