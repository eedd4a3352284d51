package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"jumpgate": main})
}

// TestCommands runs the scripts with the real program. They find free ports
// in PORT and ADMIN, a site that answers every page, and redirects where
// ?sendto= says, in UPSTREAM, and recorded messages in CAPTURES.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if to := r.URL.Query().Get("sendto"); to != "" {
					w.Header().Set("Location", to)
					w.WriteHeader(http.StatusSeeOther)
				}
				fmt.Fprintf(w, "upstream %s for %s\n", r.URL, r.Header.Get("X-Forwarded-For"))
			}))
			env.Defer(upstream.Close)
			env.Setenv("UPSTREAM", upstream.URL)
			recorded, err := filepath.Abs(captures)
			if err != nil {
				return err
			}
			env.Setenv("CAPTURES", recorded)
			for _, name := range []string{"PORT", "ADMIN", "OTHER"} {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				env.Setenv(name, fmt.Sprint(l.Addr().(*net.TCPAddr).Port))
				l.Close()
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"get": get, "await": await, "exitcode": exitCode, "stranger": stranger, "awaitget": awaitGet},
	})
}

// exitCode N PROGRAM ARG… runs a program that ends with exit code N.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](ts.Exec(args[1], args[2:]...)); ok {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%q ended with %d, not %d", args[1:], got, want)
	}
}

// get URL [NAME:VALUE…] prints status, Location and body of an answer.
func get(ts *testscript.TestScript, neg bool, args []string) {
	r, err := http.NewRequest("GET", args[0], nil)
	ts.Check(err)
	for _, header := range args[1:] {
		name, value, _ := strings.Cut(header, ":")
		r.Header.Set(name, value)
	}
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if neg {
		if err == nil {
			ts.Fatalf("%s answers with %s", args[0], res.Status)
		}
		return
	}
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s\n%s", res.Status, res.Header.Get("Location"), body)
}

// awaitGet STATUS URL waits until an address answers with a status.
func awaitGet(ts *testscript.TestScript, _ bool, args []string) {
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var last string
	for range 6000 {
		if res, err := client.Get(args[1]); err == nil {
			res.Body.Close()
			if last = res.Status; last == args[0] {
				return
			}
		}
		time.Sleep(10 * time.Millisecond) // another process: no clock of ours
	}
	ts.Fatalf("%s answers %s", args[1], last)
}

// await FILE TEXT waits until a program in the background has written a text.
func await(ts *testscript.TestScript, _ bool, args []string) {
	var said []byte
	for range 6000 {
		said, _ = os.ReadFile(ts.MkAbs(args[0])) // which may not be there yet
		if strings.Contains(string(said), args[1]) {
			return
		}
		time.Sleep(10 * time.Millisecond) // another process: no clock of ours
	}
	ts.Fatalf("%s does not say %q:\n%s", args[0], args[1], said)
}
