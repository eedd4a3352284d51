package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	nextsmtp "github.com/emersion/go-smtp"

	"jumpgate/gateway/config"
)

// mailbox is the next mail server, which keeps what it gets.
type mailbox struct {
	mu    sync.Mutex
	mails []string
}

func (m *mailbox) NewSession(*nextsmtp.Conn) (nextsmtp.Session, error) { return m, nil }
func (m *mailbox) Reset()                                              {}
func (m *mailbox) Logout() error                                       { return nil }
func (m *mailbox) Mail(string, *nextsmtp.MailOptions) error            { return nil }
func (m *mailbox) Rcpt(string, *nextsmtp.RcptOptions) error            { return nil }

func (m *mailbox) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mails = append(m.mails, string(b))
	return err
}

// relayLog keeps the log and tells when a line has come.
type relayLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (l *relayLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines <- string(line)
	return l.text.Write(line)
}

// await returns the next line with a text.
func (l *relayLog) await(t *testing.T, text string) string {
	t.Helper()
	for end := time.After(20 * time.Second); ; {
		select {
		case line := <-l.lines:
			if strings.Contains(line, text) {
				return line
			}
		case <-end:
			t.Fatalf("the log never says %q", text)
		}
	}
}

func addressIn(line string) string {
	_, rest, _ := strings.Cut(line, " address=")
	address, _, _ := strings.Cut(rest, " ")
	return strings.TrimSpace(address)
}

func TestServeRelaysMails(t *testing.T) {
	box := &mailbox{}
	next := nextsmtp.NewServer(box)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { next.Serve(l) })
	defer running.Wait()
	defer next.Close()

	file := filepath.Join(t.TempDir(), "jumpgate.yaml")
	configure := func(domain, listen string) {
		writeFile(t, file, fmt.Sprintf(`
listen: 127.0.0.1:0
admin: {listen: "127.0.0.1:0"}
state_dir: state
sites:
  - wwwroot: https://forum.example.net
    upstream: http://127.0.0.1:1
    peers: [{wwwroot: "https://home.invalid", fingerprint: "SHA256:%064x"}]
    mail:
      homes: [{home: "https://home.invalid", addresses: [%s]}]
      relay: {listen: "%s", next: "smtp://%s"}
`, 1, domain, listen, l.Addr()))
	}
	configure("example.edu", "127.0.0.1:0")
	loaded, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	log := &relayLog{lines: make(chan string, 1000)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	s := &server{log: slog.New(slog.NewTextHandler(log, nil)), load: func() (*config.Config, error) { return config.Load(file) }}
	go func() { ended <- s.run(ctx, loaded) }()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	hangUp := func() {
		if err := self.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	relay := addressIn(log.await(t, "relaying mails"))
	admin := addressIn(log.await(t, "msg=admin"))
	log.await(t, "msg=serving")

	send := func(to string) string {
		t.Helper()
		if err := smtp.SendMail(relay, nil, "noreply@forum.example.net", []string{to}, []byte("Subject: A secret\r\n\r\nhttps://forum.example.net/my/\r\n")); err != nil {
			t.Fatal(err)
		}
		return log.await(t, "msg=mail")
	}
	line := send("ada@example.edu")
	for _, want := range []string{"level=INFO", "site=https://forum.example.net", "outcome=sent", "code=250", "domain=example.edu", "recipients=1", "home=https://home.invalid", "links=1"} {
		if !strings.Contains(line, want) {
			t.Errorf("the log does not say %s: %s", want, line)
		}
	}
	if strings.Contains(line, "ada") || strings.Contains(line, "secret") {
		t.Errorf("the log says too much: %s", line)
	}

	// A reload changes whose home is where, on the same address.
	configure("college.example", "127.0.0.1:0")
	hangUp()
	log.await(t, "the configuration was reloaded")
	send("ada@example.edu")
	send("ada@college.example")
	box.mu.Lock()
	for i, want := range []bool{true, false, true} {
		if got := strings.Contains(box.mails[i], "https://home.invalid/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fforum.example.net&wantsurl=%2Fmy%2F\r\n"); got != want {
			t.Errorf("mail %d: %q", i, box.mails[i])
		}
	}
	box.mu.Unlock()
	// Another address takes a restart.
	configure("college.example", "127.0.0.1:1")
	hangUp()
	if line := log.await(t, "not reloaded"); !strings.Contains(line, "mail.relay.listen has changed, which takes a restart") {
		t.Error(line)
	}

	// Without the next server, the sender is told to come again.
	next.Close()
	err = smtp.SendMail(relay, nil, "noreply@forum.example.net", []string{"ada@example.edu"}, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "451 ") {
		t.Errorf("without a next server: %v", err)
	}
	if line := log.await(t, "msg=mail"); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "outcome=deferred") {
		t.Error(line)
	}
	res, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(res.Body)
	res.Body.Close()
	for _, want := range []string{
		`jumpgate_mails_total{outcome="sent",site="https://forum.example.net"} 3`, `jumpgate_mail_links_total{site="https://forum.example.net"} 2`,
	} {
		if err != nil || !strings.Contains(string(metrics), want+"\n") {
			t.Errorf("no %s in the metrics", want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", relay); err == nil {
		c.Close()
		t.Error("the relay still listens")
	}
}
