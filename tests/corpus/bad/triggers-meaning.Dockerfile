FROM base AS maker
ONBUILD ENV x=${y?gone}
ONBUILD STOPSIGNAL nonsense
FROM maker
