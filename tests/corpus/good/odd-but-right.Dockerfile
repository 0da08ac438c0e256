# syntax = docker/dockerfile:1.7
#a comment
from base as ODD


run echo a \

# in between

  b
RUN	tab	separated
Copy [ "a\u0020b" , "/c" ]
CMD [ 'not', 'json' ]
CMD ["a", "b"
ENV empty= quoted="" x=
entrypoint []
CMD []
