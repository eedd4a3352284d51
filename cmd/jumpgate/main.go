// Command jumpgate is a gateway for Moodle networks, at homes and at forums.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"jumpgate/gateway/config"
)

// commands is the command line: a field per command, each in a file of its
// own.
type commands struct {
	Serve   serveCommand   `cmd:"" help:"Run the gateway."`
	Demo    demoCommand    `cmd:"" help:"Run a whole federation on this machine, to try a jump."`
	Peer    peerCommand    `cmd:"" help:"Add, look at and remove the sites that learners may jump to."`
	Check   checkCommand   `cmd:"" help:"Say where a jump would land, or which rule refuses it."`
	Policy  policyCommand  `cmd:"" help:"Print the rules of a site, and test them with cases of your own."`
	Link    linkCommand    `cmd:"" help:"Make links to pages of the site, signed or not, and take signed ones back."`
	Audit   auditCommand   `cmd:"" help:"Read and verify the trail of what was decided and done."`
	Session sessionCommand `cmd:"" help:"List and end sessions at peers, and look into Moodle's."`
	Key     keyCommand     `cmd:"" help:"Show, change, import or export the MNet key of a site."`
	MNet    mnetCommand    `cmd:"" name:"mnet" help:"Find out why a peer does not talk: look inside messages, call methods, read its log."`
	Mail    mailCommand    `cmd:"" help:"Change the links of a mail, from standard input to standard output, so that they lead through the home of who gets it."`
	Enrol   enrolCommand   `cmd:"" help:"Enrol learners in courses of a peer."`
	Account accountCommand `cmd:"" name:"accounts" help:"Find the accounts that are left behind when the site's Moodle loses MNet."`
	Config  configCommand  `cmd:"" help:"Check or print a configuration."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

// terminal is what a command may read and write. Its context ends at SIGINT
// and SIGTERM.
type terminal struct {
	ctx    context.Context
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func main() {
	// net/http prints what it can make no sense of, cookies included, to the
	// standard logger. What matters reaches our own.
	log.SetOutput(io.Discard)
	// A gateway keeps little and throws away much: with Go's own setting it
	// would spend a good part of its time on collecting a few megabytes.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &terminal{ctx: ctx, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(t.run(os.Args[1:]))
}

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

// run executes a command line and returns the exit code.
func (t *terminal) run(args []string) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("jumpgate"),
		kong.Description("A gateway for Moodle networks (MNet), at homes and at forums."),
		kong.Writers(t.stdout, t.stderr),
		kong.Exit(func(code int) { exited = code }), // --help
		kong.UsageOnError(),
	)
	if err != nil {
		panic(err) // the structs above are wrong
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		hint := "run jumpgate --help, or jumpgate COMMAND --help"
		if strings.Contains(err.Error(), "--config=FILE") {
			hint = "name the configuration: -c /etc/jumpgate/jumpgate.yaml, wherever yours is"
		}
		t.report(err, hint)
		return exitUsage
	}
	err = parsed.Run(t)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errQuiet):
	default:
		t.report(err, "run it with --help to see what it takes")
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	if isUsage(err) {
		return exitUsage
	}
	return exitFailure
}

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func (e *exitError) Unwrap() error { return e.error }

// isUsage reports whether an error is about the command line itself.
func isUsage(err error) bool {
	if _, ok := errors.AsType[*usageError](err); ok {
		return true
	}
	var wrong *config.Error
	return errors.As(err, &wrong) && wrong.Flag != ""
}

// report prints an error once, and then what to do about it.
func (t *terminal) report(err error, hint string) {
	if all, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range all.Unwrap() {
			t.report(one, hint)
		}
		return
	}
	// Some of it may be a stranger's: of a certificate, a page, a fault.
	fmt.Fprintf(t.stderr, "jumpgate: error: %s\n", strings.Map(visible, err.Error()))
	if known := hintOf(err); known != "" {
		hint = known
	}
	if hint != "" {
		fmt.Fprintf(t.stderr, "jumpgate: hint: %s\n", hint)
	}
}

// hintOf returns what an error says is to be done about it, or "".
func hintOf(err error) string {
	if hinted, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return hinted.Hint()
	}
	return ""
}

// errQuiet ends a command with exit code 1 when all has been said.
var errQuiet = errors.New("")

// hintedError is an error with advice.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// Hint says what to do about the error.
func (e *hintedError) Hint() string { return e.hint }

func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hintedError{err, hint}
}

// usageError is a command line that cannot be meant.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

// Hint says how to call the command.
func (e *usageError) Hint() string { return e.hint }
