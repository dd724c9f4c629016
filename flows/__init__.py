from digitflow.flows.log_text import make_harmless

make_harmless()
