FROM base AS construct
COPY --from=construct /a /b
FROM ${NOTHING}
FROM 0
COPY --from=9 /a /b
COPY --from=$STAGE /a /b
COPY --from=scratch /a /b
