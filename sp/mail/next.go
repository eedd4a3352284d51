package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"jumpgate/gateway"
)

// dial connects to the server, with TLS and a login as far as it is to have
// them, within limit.
func (s Server) dial(ctx context.Context, hostname string, limit time.Duration) (*smtp.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return nil, err
	}
	here := gateway.LoopbackHost(host)
	must := s.Config != nil || s.Username != "" && !here
	client, err := s.connect(ctx, hostname, host, limit, must && !s.TLS)
	if err != nil {
		return nil, err
	}
	if offered, _ := client.Extension("STARTTLS"); offered && !s.TLS && !must && !here {
		// go-smtp begins TLS on new connections only.
		client.Close()
		if client, err = s.connect(ctx, hostname, host, limit, true); err != nil {
			return nil, err
		}
	}
	if err := s.login(client); err != nil {
		client.Close()
		return nil, fmt.Errorf("login: %w", err)
	}
	return client, nil
}

// connect connects once, and says hello.
func (s Server) connect(ctx context.Context, hostname, host string, limit time.Duration, startTLS bool) (*smtp.Client, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", s.Address)
	if err != nil {
		return nil, err
	}
	c := &nextConn{Conn: raw, limit: limit}
	c.until, _ = ctx.Deadline()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.Config != nil {
		config = s.Config.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	var client *smtp.Client
	switch {
	case s.TLS:
		encrypted := tls.Client(c, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		client = smtp.NewClient(encrypted)
	case startTLS:
		if client, err = smtp.NewClientStartTLS(c, config); err != nil {
			return nil, err
		}
	default:
		client = smtp.NewClient(c)
	}
	if err := client.Hello(hostname); err != nil {
		client.Close()
		return nil, err
	}
	client.CommandTimeout, client.SubmissionTimeout = limit, 2*limit
	c.connected()
	return client, nil
}

func (s Server) login(client *smtp.Client) error {
	switch {
	case s.Username == "":
		return nil
	case client.SupportsAuth(sasl.Plain):
		return client.Auth(sasl.NewPlainClient("", s.Username, s.Password))
	case client.SupportsAuth(sasl.Login):
		return client.Auth(sasl.NewLoginClient(s.Username, s.Password))
	}
	return errors.New("the server knows neither PLAIN nor LOGIN")
}

// nextConn is a connection to the next server. go-smtp sets deadlines where it
// waits for answers; here those for what it writes in between are set, and none
// is later than the end of the time for connecting.
type nextConn struct {
	net.Conn
	limit time.Duration

	mu    sync.Mutex
	until time.Time // zero once connected
}

// connected ends the time for connecting.
func (c *nextConn) connected() {
	c.mu.Lock()
	c.until = time.Time{}
	c.mu.Unlock()
	c.SetDeadline(time.Time{})
}

// SetDeadline sets the earlier one of t and the end of the time for connecting.
func (c *nextConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.until.IsZero() && (t.IsZero() || t.After(c.until)) {
		t = c.until
	}
	return c.Conn.SetDeadline(t)
}

func (c *nextConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.until.IsZero() {
		c.SetWriteDeadline(time.Now().Add(c.limit))
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}
