/* parleyd: the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/app/server.h"
#include "server/base/alloc.h"

static void print_help(void)
{
    const struct pl_option_info *options;
    size_t count = pl_config_options(&options);

    printf(
        "parleyd %s: a realtime server for discussions\n\n"
        "Usage: parleyd [--config FILE] [--set section.key=value]... [--dev]\n\n"
        "  --config FILE           read options from FILE (see conf/parley.conf)\n"
        "  --set SECTION.KEY=VALUE set one option; wins over the file and the environment\n"
        "  --check-config          check the configuration and exit: 0 good, 2 bad\n"
        "  --dev                   try it out: makes up missing keys, serves the demo page at /\n"
        "  --version, --help\n\n"
        "Options (SECTION.KEY in the file and for --set, PARLEY_SECTION_KEY in the "
        "environment):\n\n",
        PL_VERSION);
    for (size_t i = 0; i < count; i++) {
        printf("  %s.%s (%s)\n      %s\n", options[i].section, options[i].key,
               options[i].def[0] != '\0' ? options[i].def : "empty", options[i].help);
    }
    printf("\nSignals: SIGHUP reloads, SIGUSR2 upgrades to the binary that is now where this one "
           "was,\n"
           "SIGTERM drains and stops, SIGINT stops at once.\n");
}

static int usage(const char *what, const char *arg)
{
    fprintf(stderr, "parleyd: %s%s (see parleyd --help)\n", what, arg);
    return 2;
}

struct command {
    struct pl_server_options options;
    const char **set;
    bool check;
};

/* Takes the argument of an option that needs one; NULL when it is missing. */
static const char *argument(int argc, char **argv, int *i)
{
    return *i + 1 < argc ? argv[++*i] : NULL;
}

/* -1 to go on, else the exit code. */
static int parse(int argc, char **argv, struct command *c)
{
    for (int i = 1; i < argc; i++) {
        const char *value = "";

        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("parleyd %s\n", PL_VERSION);
            return 0;
        }
        if (strcmp(argv[i], "--check-config") == 0) {
            c->check = true;
        } else if (strcmp(argv[i], "--dev") == 0) {
            c->options.dev = true;
        } else if (strcmp(argv[i], "--config") == 0) {
            value = c->options.sources.file = argument(argc, argv, &i);
        } else if (strcmp(argv[i], "--set") == 0) {
            value = c->set[c->options.sources.set_count++] = argument(argc, argv, &i);
        } else {
            return usage("unknown option ", argv[i]);
        }
        if (value == NULL) {
            return usage("a value is missing after ", argv[i]);
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct command c = {.set = pl_alloc((size_t)argc * sizeof(char *))};
    int status;

    c.options.argv = argv;
    c.options.sources.set = c.set;
    status = parse(argc, argv, &c);
    if (status < 0) {
        status = c.check ? pl_server_check(&c.options) : pl_server_run(&c.options);
        if (c.check && status == 0) {
            printf("parleyd: the configuration is good\n");
        }
    }
    free(c.set);
    return status;
}
