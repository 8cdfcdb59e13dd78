#include <stdio.h>
#include <string.h>

#include "server/base/log.h"
#include "server/cli/command.h"

static const struct pl_cli_command commands[] = {
    {"token", "make a JSON Web Token for a user", "token --user ID --communities IDS [options]",
     "Prints a token that lets a client of this user in. It is signed with the first key of\n"
     "--key, --set, PARLEY_AUTH_JWT_KEY or --config: the one that parleyd has.\n\n"
     "  parley token --user 7 --communities 42,43 --ttl 1h --config parley.conf",
     pl_cli_token},
    {"publish", "publish an event as a backend does",
     "publish --community ID --type TYPE --data JSON [options]",
     "Prints the event's id. Tried again under the same Idempotency-Key while the server says 503\n"
     "or 429.\n\n"
     "  parley publish --community 42 --type new_comment --data "
     "'{\"article_id\":789,\"comment\":{}}'",
     pl_cli_publish},
    {"watch", "print a user's events as they come", "watch --user ID --communities IDS [options]",
     "Prints each event as one line of JSON on stdout, whatever the codec on the wire, and what\n"
     "happens to the link on stderr. After a lost link it goes on, on the same queue, from where "
     "it\n"
     "was. SIGINT ends the queue and the tool.\n\n"
     "  parley watch --user 7 --communities 42 --config parley.conf\n"
     "  parley watch --token \"$TOKEN\" --transport longpoll --codec msgpack --count 10",
     pl_cli_watch},
    {"stats", "show a server's numbers, refreshed every second", "stats [--url URL]... [--once]",
     "Reads /metrics and /health; rates and latencies are those of the last second. The server\n"
     "answers these to its own machine only, or on server.internal_listen. Of several servers, or "
     "one\n"
     "with workers: all together, and a line for each.\n\n"
     "  parley stats --url http://10.0.0.11:8889 --url http://10.0.0.12:8889",
     pl_cli_stats},
    {"nodes", "list the nodes of a redis bus", "nodes [--bus URL] [--all]",
     "Each node says every few seconds, in Redis, who it is: that is what is printed. One that "
     "has\n"
     "been silent for four times as long is gone. The bus is that of parleyd: --config,\n"
     "PARLEY_BUS_URL, or --bus.\n\n"
     "  parley nodes --bus redis://127.0.0.1:6379",
     pl_cli_nodes},
    {"log", "print a channel's log on a redis bus", "log --community ID [options]",
     "A line per event, the newest last: id, time, tag, and the event as clients see it. Whom it\n"
     "was kept from is said before it; --json says all. --control prints the changes of users'\n"
     "memberships instead.\n\n"
     "  parley log --community 42 --bus redis://127.0.0.1:6379\n"
     "  parley log --channel room:7 --since 1234567890 --limit 1000 --json",
     pl_cli_log},
    {"kick", "end a user's queues as a backend does", "kick --user ID [--block TIME]",
     "Closes the user's links, ends the queues and refuses the tokens made before. Prints how "
     "many\n"
     "queues there were.\n\n"
     "  parley kick --user 7 --block 60s --config parley.conf",
     pl_cli_kick},
    {"doctor", "check a set-up: Redis, this machine, and the way clients take",
     "doctor [--config FILE] [--bus URL] [--url URL] [--json]",
     "Looks at the settings of Redis and its clock, at this machine's limits, at what crosses a "
     "network\n"
     "unencrypted, and with --url at the server as clients reach it: certificate, health, and "
     "whether\n"
     "something on the way cuts a held poll or a quiet WebSocket (which takes as long as polls "
     "are\n"
     "held). https:// needs the command openssl. Status 1 if something is wrong.\n\n"
     "  parley doctor --config parley.conf --url https://example.org",
     pl_cli_doctor},
    {"upgrade", "have parleyd become the binary that is now in its place",
     "upgrade [--url URL] [--patience TIME]",
     "For a parleyd on this machine: sends it SIGUSR2, and waits until its workers are those of "
     "the "
     "new\n"
     "binary. Status 1 if it is refused, and then nothing has changed. --url is where it answers "
     "its\n"
     "operators: server.internal_listen, if that is set.\n\n"
     "  mv parleyd.new /usr/bin/parleyd && parley upgrade --url http://127.0.0.1:8889",
     pl_cli_upgrade},
    {"check-config", "check a configuration without starting a server",
     "check-config [--config FILE] [--set S.K=V]",
     "Reads the configuration as parleyd does, and its keys. Status 2 and one sentence if "
     "something\n"
     "is wrong.",
     pl_cli_check_config},
    {0},
};

int main(int argc, char **argv)
{
    struct pl_cli_args args;
    struct pl_cli_error err;
    struct pl_buf text = {0};

    pl_log_setup(PL_LOG_ERROR, PL_LOG_KV);
    if (pl_cli_parse(commands, argc, argv, &args, &err) != 0) {
        fprintf(stderr, "parley%s%s\n", args.command ? " " : ": ", err.text);
        return PL_CLI_USAGE;
    }
    if (args.version) {
        puts("parley " PL_VERSION);
        return PL_CLI_OK;
    }
    if (args.help) {
        pl_cli_help(commands, args.command, &text);
        fputs(pl_buf_cstr(&text), stdout);
        pl_buf_done(&text);
        return PL_CLI_OK;
    }
    return args.command->run(&args);
}
