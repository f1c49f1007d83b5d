"""`octavo serve`: starts the three services on one machine; starts processes, imports none of them.

settings.py   what the user chooses
preflight.py  what is checked before anything starts
services.py   where the services are
commands.py   the command line of each service
child.py      one service as a process: its output, its end
run_folder.py logs and ready files of one run
readiness.py  when a service serves, and how far it is until then
greeting.py   what is printed then
serve.py      the order of it all
"""
