FROM base AS maker
ONBUILD COPY --from=later /a /a
FROM maker AS x
FROM base AS later
FROM x
