ARG EMPTY
FROM --platform=$EMPTY base
FROM --platform=pdp11 base
FROM --platform=${X?gone} base
