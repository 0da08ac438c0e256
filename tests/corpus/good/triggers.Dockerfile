FROM base AS tools
RUN make tools

FROM base AS maker
ONBUILD ARG FLAVOUR=plain
ONBUILD ENV FLAVOUR=$FLAVOUR
ONBUILD COPY --from=tools /bin/tool /bin/
ONBUILD RUN <<EOF
tool $FLAVOUR
EOF
RUN make maker

FROM maker
RUN use it
