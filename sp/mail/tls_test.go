package mail_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"jumpgate/sp/mail"
)

// secureNext is a mail server with TLS and a login.
type secureNext struct {
	addr   string
	trust  *x509.CertPool
	logins bool

	mu   sync.Mutex
	seen []string
}

func (n *secureNext) saw(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, what)
}

type secureSession struct {
	*secureNext
	conn *smtp.Conn
}

func (s secureSession) AuthMechanisms() []string {
	if s.logins {
		return []string{sasl.Plain}
	}
	return nil
}

func (s secureSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		if s.saw("login " + username); password != "hunter2" {
			return errors.New("no")
		}
		return nil
	}), nil
}

func (s secureSession) Reset()                               {}
func (s secureSession) Logout() error                        { return nil }
func (s secureSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s secureSession) Mail(from string, _ *smtp.MailOptions) error {
	if _, encrypted := s.conn.TLSConnectionState(); encrypted {
		from += " over TLS"
	}
	s.saw(from)
	return nil
}

func (s secureSession) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func newSecureNext(t *testing.T, startTLS, wrapped, logins bool) *secureNext {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	n := &secureNext{trust: x509.NewCertPool(), logins: logins}
	n.trust.AddCert(web.Certificate())
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return secureSession{n, c}, nil }))
	server.AllowInsecureAuth = true
	config := &tls.Config{Certificates: web.TLS.Certificates}
	if startTLS {
		server.TLSConfig = config
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	if wrapped {
		l = tls.NewListener(l, config)
	}
	var done sync.WaitGroup
	done.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		done.Wait()
	})
	return n
}

func TestMailsAndPasswordsTravelAsSafelyAsTheConfigurationSays(t *testing.T) {
	tests := []struct {
		name                      string
		startTLS, wrapped, logins bool
		next                      mail.Server
		distrust                  bool
		elsewhere                 bool     // not by an address of this machine
		want                      []string // what the server sees; nil if the client is told to come again
	}{
		{"on this machine, plain", true, false, false, mail.Server{}, false, false, []string{"a@b.example"}},
		{"with a login on this machine", false, false, true, mail.Server{Username: "moodle", Password: "hunter2"}, false, false, []string{"login moodle", "a@b.example"}},
		{"with a wrong password", false, false, true, mail.Server{Username: "moodle", Password: "x"}, false, false, []string{"login moodle"}},
		{"with a login that is not offered", false, false, false, mail.Server{Username: "moodle", Password: "hunter2"}, false, false, nil},
		{"STARTTLS", true, false, false, mail.Server{Config: &tls.Config{ServerName: "example.com"}}, false, false, []string{"a@b.example over TLS"}},
		{"STARTTLS and a login", true, false, true, mail.Server{Config: &tls.Config{}, Username: "moodle", Password: "hunter2"}, false, false, []string{"login moodle", "a@b.example over TLS"}},
		{"STARTTLS that is not offered", false, false, true, mail.Server{Config: &tls.Config{}, Username: "moodle", Password: "hunter2"}, false, false, nil},
		{"STARTTLS with a certificate of somebody", true, false, true, mail.Server{Config: &tls.Config{}, Username: "moodle", Password: "hunter2"}, true, false, nil},
		{"STARTTLS with another name", true, false, false, mail.Server{Config: &tls.Config{ServerName: "mail.example.org"}}, false, false, nil},
		{"TLS from the first byte on", false, true, true, mail.Server{TLS: true, Config: &tls.Config{}, Username: "moodle", Password: "hunter2"}, false, false, []string{"login moodle", "a@b.example over TLS"}},
		{"TLS with a certificate of somebody", false, true, true, mail.Server{TLS: true, Username: "moodle", Password: "hunter2"}, true, false, nil},
		{"TLS that is not spoken", false, false, true, mail.Server{TLS: true, Config: &tls.Config{}, Username: "moodle", Password: "hunter2"}, false, false, nil},
		{"elsewhere, STARTTLS where it is offered", true, false, false, mail.Server{}, true, true, nil},
		{"elsewhere, plain where it is not", false, false, false, mail.Server{}, false, true, []string{"a@b.example"}},
		{"elsewhere, no password without TLS", false, false, true, mail.Server{Username: "moodle", Password: "hunter2"}, false, true, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newSecureNext(t, test.startTLS, test.wrapped, test.logins)
			if test.next.Config != nil && !test.distrust {
				test.next.Config.RootCAs = n.trust
			}
			if test.next.Address = n.addr; test.elsewhere {
				if runtime.GOOS != "linux" {
					t.Skip("0.0.0.0 is this machine on Linux")
				}
				_, port, _ := net.SplitHostPort(n.addr)
				test.next.Address = "0.0.0.0:" + port
			}
			r := newRelay(t, &nextServer{}, func(o *mail.RelayOptions) { o.Next, o.Timeout = test.next, 5*time.Second })
			c := dial(t, r)
			if len(test.want) == 0 || test.want[len(test.want)-1] == "login moodle" {
				c.does("", 220, "EHLO moodle.test", 451)
			} else {
				c.does("", 220, "EHLO moodle.test", 250, "MAIL FROM:<a@b.example>", 250, "RCPT TO:<c@d.example>", 250, "DATA", 354, ".", 250, "QUIT", 221)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.seen) != len(test.want) {
				t.Fatalf("the server sees %q", n.seen)
			}
			for i := range n.seen {
				if n.seen[i] != test.want[i] {
					t.Errorf("the server sees %q", n.seen)
				}
			}
		})
	}
}
