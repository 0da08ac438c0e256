FROM base AS construct
FROM base
COPY --from=constuct /web/site ./
COPY --from=nowhere /a /b
