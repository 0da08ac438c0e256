FROM base AS a
RUN --mount=type=bind,from=a,target=/a make
RUN --mount=from=$x,target=/a make
RUN --mount=from=9,target=/a make
RUN --mount=from=b,target=/b make
FROM base AS b
COPY --from=a / /
FROM a
