FORM base
FROM base AS construct
RNU make
COPY --form=construct a b
COPY only-one
ENV A=1 B
LABEL
CMD ["a", 1]
SHELL bash -c
EXPOSE
