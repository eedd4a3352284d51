package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway/moodletest"
)

// TestWebServersAskWhoMakesARequest runs the web servers of deploy/forum.md as it says.
func TestWebServersAskWhoMakesARequest(t *testing.T) {
	for _, test := range []struct {
		program, begins string
		config          func(dir, address, block string) (string, []string)
	}{
		{"nginx", "\n    location ~ ^/(jumpgate/", func(dir, address, block string) (string, []string) {
			return "daemon off; pid " + dir + "/pid; error_log stderr; events {}\nhttp { access_log off; client_body_temp_path " + dir + "/b; proxy_temp_path " + dir +
				"/p; fastcgi_temp_path " + dir + "/f; uwsgi_temp_path " + dir + "/u; scgi_temp_path " + dir + "/s; proxy_redirect off;\nserver { listen " + address + ";\n" + block + "}}\n", []string{"-p", dir, "-c"}
		}},
		{"caddy", "\n    notes.example.net {", func(_, address, block string) (string, []string) {
			_, port, _ := net.SplitHostPort(address)
			return "{\n admin off\n auto_https off\n}\n" + strings.Replace(block, "notes.example.net", "http://:"+port, 1), []string{"run", "--adapter", "caddyfile", "--config"}
		}},
	} {
		t.Run(test.program, func(t *testing.T) {
			program, err := exec.LookPath(test.program)
			if err != nil {
				t.Skip(err)
			}
			a := newApplication(t, "jwt\n    bounce: choose")
			dir, address := t.TempDir(), freeAddress(t)
			block := strings.NewReplacer("127.0.0.1:8080", strings.TrimPrefix(a.forum, "http://"), "127.0.0.1:9000", a.behind.Listener.Addr().String()).Replace(guideBlock(t, test.begins))
			text, args := test.config(dir, address, block)
			writeFile(t, filepath.Join(dir, "config"), text)
			cmd := exec.Command(program, append(args, filepath.Join(dir, "config"))...)
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			out := &testLog{t: t}
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Signal(os.Interrupt)
				_ = cmd.Wait()
			})
			awaitAddress(t, address)

			v := newVisitor(t)
			v.client.Transport = &http.Transport{DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
				if "http://"+to == a.forum {
					to = address
				}
				return new(net.Dialer).DialContext(ctx, network, to)
			}}
			browse := func(headers ...string) *visitor {
				t.Helper()
				return v.as(a.forum+moodletest.SampleDeepLink, append(headers, "Accept", "text/html")...)
			}
			a.seen.Store(nil)
			forged := []string{"Jumpgate-Assertion", "forged", "Jumpgate_Assertion", "forged"}
			if browse(forged...); !strings.Contains(v.page, "Where do you come from?") || a.seen.Load() != nil {
				t.Fatalf("nobody is at %s (site %s, %s at %s) after %q:\n%s", v.at, a.forum, test.program, address, v.hops, v.page)
			}
			v.as(a.forum+moodletest.SampleDeepLink, append(forged, "Accept", "application/json")...)
			if strings.Contains(v.page, "Hand in by Friday") || a.seen.Load() != nil {
				t.Fatalf("nobody reads, at %s:\n%s", v.at, v.page)
			}
			v.follow(a.landing(0, "ada"))
			if browse(forged...); !strings.Contains(v.page, "Logged in as "+a.account(0, "ada")+":") || v.at.String() != a.forum+moodletest.SampleDeepLink {
				t.Fatalf("ada is at %s:\n%s", v.at, v.page)
			}
			if got := a.seen.Load().Values("Jumpgate-Assertion"); len(got) != 1 || got[0] == "forged" {
				t.Errorf("the application is told %q", got)
			}
		})
	}
}

// guideBlock returns the indented text of deploy/forum.md that begins so.
func guideBlock(t *testing.T, begins string) string {
	t.Helper()
	guide, err := os.ReadFile("../../deploy/forum.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(guide), begins)
	if !ok {
		t.Fatalf("deploy/forum.md has no %q", begins)
	}
	var block strings.Builder
	for line := range strings.Lines(begins[1:] + rest) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			break
		}
		block.WriteString(line)
	}
	return block.String()
}

// freeAddress returns an address that nobody has listened on for a moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitAddress waits for a process that listens.
func awaitAddress(t *testing.T, address string) {
	t.Helper()
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return
		}
		time.Sleep(25 * time.Millisecond) // of a process: no clock of ours to fake
	}
	t.Fatal("it does not listen")
}
