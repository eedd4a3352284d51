package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// NewServer returns a server for handler with limits fit for a gateway: slow
// or silent clients are sent away, long transfers are not. It speaks HTTP/1.1
// and HTTP/2, the latter over TLS and, with prior knowledge, in clear. It
// needs a listener of Listen, which limits how slowly a client may read.
// Times that a handler may take are left to the handler.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    256 << 10, // a query string of 64 KB and many cookies
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// A client that vanished is noticed even on an idle stream.
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     30 * time.Second,
		},
	}
	s.DisableGeneralOptionsHandler = true // "OPTIONS *" is answered like everything else
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// Listen listens on a TCP address. Every write to a connection has to make
// some progress within limit (DefaultProgressTimeout if zero); how long the
// whole takes does not matter, nor how long a connection is silent. TLS may
// be put on top.
func Listen(ctx context.Context, address string, limit time.Duration) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &listener{TCPListener: l.(*net.TCPListener), limit: orDefault(limit, DefaultProgressTimeout)}, nil
}

type listener struct {
	*net.TCPListener
	limit time.Duration
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, limit: l.limit}, nil
}

// conn is a TCP connection whose writes fail when the other side takes no
// byte for about limit. The deadline behind it is moved at a write and only
// if it has grown old, so it costs little, and an idle connection may well
// have one that has passed: that does no harm.
type conn struct {
	net.Conn
	limit time.Duration
	moved atomic.Int64 // nanoseconds after start
	fixed atomic.Bool  // somebody else has set a deadline: TLS, while it shakes hands or closes
}

var start = time.Now()

// Write writes all of p as long as there is progress.
func (c *conn) Write(p []byte) (n int, err error) {
	for {
		c.extend()
		m, err := c.Conn.Write(p[n:])
		n += m
		if m == 0 || err == nil || c.fixed.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

func (c *conn) extend() {
	if c.fixed.Load() {
		return
	}
	now := time.Since(start)
	if moved := c.moved.Load(); moved == 0 || now-time.Duration(moved) > c.limit/4 {
		c.moved.Store(int64(now))
		_ = c.Conn.SetWriteDeadline(start.Add(now + c.limit))
	}
}

// SetWriteDeadline sets a deadline that stands until it is taken away.
// Taking it away costs nothing: the next write sets ours.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() && !c.fixed.Load() {
		return nil
	}
	c.fixed.Store(!t.IsZero())
	c.moved.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite ends our half of the connection.
func (c *conn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }
