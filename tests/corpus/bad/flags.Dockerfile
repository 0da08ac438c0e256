FROM --platfrom=linux/amd64 base
COPY --form=a b c
COPY --link=maybe a b
COPY --parents=1 a b
COPY --chown a b
COPY --chmod=755 --chmod=644 a b
COPY --checksum=x a b
ADD --from=a b c
ADD --parents a b
RUN --networks=none make
RUN --network=nome make
RUN --security=insecure make
RUN --device=/dev/fuse make
RUN --mount make
HEALTHCHECK --interval=5 CMD true
HEALTHCHECK --retries=many CMD true
HEALTHCHECK --period=5s CMD true
HEALTHCHECK true
ONBUILD --now RUN make
CMD --flag
