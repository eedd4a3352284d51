package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"jumpgate/gateway"
)

// RelayOptions are what a Relay needs.
type RelayOptions struct {
	Site    gateway.Wwwroot
	Aliases []gateway.Wwwroot
	Homes   *Homes

	Clients  []netip.Prefix // who may send mails; nobody else
	Next     Server         // where they go
	Hostname string         // what the relay calls itself

	MaxSize        int64 // of a mail, in bytes
	MaxConnections int   // at once
	Timeout        time.Duration

	// Observe is told what became of each mail.
	Observe func(context.Context, Event)
}

// Server is a mail server.
type Server struct {
	Address  string      // host:port
	TLS      bool        // from the first byte on, instead of STARTTLS
	Config   *tls.Config // nil: STARTTLS is used where it is offered, but on this machine
	Username string      // empty for no login
	Password string
}

// Event is what became of a mail, or of a part of one before it was sent.
type Event struct {
	Outcome    string
	Home       *gateway.Peer // nil if it is not known
	Domain     string        // of the last recipient
	Recipients int
	Result     Result
	Code       int // of the answer
	Err        error
	Duration   time.Duration
}

// Outcomes of a mail. It is never lost: but for a mail that was sent, the
// client has been told to keep it or that it was refused.
const (
	OutcomeSent     = "sent"     // the next server has it
	OutcomeRefused  = "refused"  // for good, by the next server or by us
	OutcomeDeferred = "deferred" // for now
	OutcomeAborted  = "aborted"  // the client did not send it to its end

	// The two in which it may arrive twice (RFC 1047), since the client will
	// send it again although the next server may have it, or has.
	OutcomeUnknown     = "unknown"     // the next server did not answer to the whole mail
	OutcomeUnconfirmed = "unconfirmed" // the client was gone when it was to be told
)

// Relay is a mail server that keeps no mails: it gives each to the next server
// while it comes in, and says what that says. It adds nothing to a mail, not even
// a field Received: the servers before and after it do. It speaks SMTP with go-smtp, one
// smtp.Server for each connection, so that it offers what the next server offers.
type Relay struct {
	options atomic.Pointer[RelayOptions]

	ctx  context.Context // of all connections
	stop context.CancelFunc

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	running  sync.WaitGroup
}

// NewRelay returns a relay that serves nobody yet. Shutdown ends it.
func NewRelay(o RelayOptions) *Relay {
	r := &Relay{conns: map[*conn]struct{}{}}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.Use(o)
	return r
}

// Use changes the options for the connections to come, and the homes for the
// mails to come: clients keep connections for as long as they like.
func (r *Relay) Use(o RelayOptions) { r.options.Store(&o) }

// acceptPause is how long Serve waits when there are no more file descriptors.
const acceptPause = 100 * time.Millisecond

// Serve takes connections from l until Shutdown, which closes it.
func (r *Relay) Serve(l net.Listener) error {
	defer context.AfterFunc(r.ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			r.take(c)
		case r.drains():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			select {
			case <-time.After(acceptPause):
			case <-r.ctx.Done():
				return nil
			}
		}
	}
}

func (r *Relay) drains() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
}

// refusalTime bounds how long a client may take to hear that it is not served.
const refusalTime = time.Second

// take serves a connection, if the client may have one.
func (r *Relay) take(c net.Conn) {
	o := r.options.Load()
	r.mu.Lock()
	refusal := ""
	switch {
	case !allowed(c.RemoteAddr(), o.Clients):
		refusal = "554 5.7.1 This mail server is not for you\r\n"
	case r.draining:
		refusal = "421 4.3.2 Stopping\r\n"
	case len(r.conns) >= o.MaxConnections:
		refusal = "421 4.3.2 Too many connections\r\n"
	}
	if refusal != "" {
		r.mu.Unlock()
		c.SetWriteDeadline(time.Now().Add(refusalTime))
		c.Write([]byte(refusal))
		c.Close()
		return
	}
	conn := newConn(c, o.Timeout)
	r.conns[conn] = struct{}{}
	r.running.Go(func() {
		r.serve(conn, o)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, conn)
	})
	r.mu.Unlock()
}

func allowed(from net.Addr, clients []netip.Prefix) bool {
	a, err := netip.ParseAddrPort(from.String())
	addr := a.Addr().Unmap().WithZone("")
	return err == nil && slices.ContainsFunc(clients, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Bounds of a connection.
const (
	maxSMTPLine   = 1 << 20 // mails with longer lines are refused
	maxRecipients = 1000    // of a mail
)

// serve serves a connection to its end.
func (r *Relay) serve(c *conn, o *RelayOptions) {
	s := &session{ctx: r.ctx, o: o, latest: r.options.Load, conn: c}
	s.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return s, s.begin() }))
	s.server.Domain = o.Hostname
	s.server.MaxMessageBytes = o.MaxSize
	s.server.MaxLineLength = maxSMTPLine
	s.server.MaxRecipients = maxRecipients
	s.server.WriteTimeout = o.Timeout
	s.server.ErrorLog = &panics{session: s}
	stop := context.AfterFunc(r.ctx, func() { c.Close() })
	defer stop()
	s.server.Serve(&oneConn{conn: c})       // ends when the connection does,
	s.server.Shutdown(context.Background()) // and this when its goroutine has
	if err := c.unconfirmed(); err != nil {
		e := s.sent
		e.Outcome, e.Err = OutcomeUnconfirmed, err
		o.Observe(r.ctx, e)
	}
	s.leave()
}

// Shutdown stops listening, ends connections that are between mails, and waits
// for the others; when ctx ends, these are cut off, and their clients keep the
// mails.
func (r *Relay) Shutdown(ctx context.Context) {
	r.mu.Lock()
	r.draining = true
	for c := range r.conns {
		c.drain()
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	r.stop()
	<-done
}

// panics takes of the log of go-smtp what is our own fault: the rest would name
// clients.
type panics struct{ session *session }

// Printf records a panic, which the client has been told as a 421.
func (p *panics) Printf(format string, v ...any) {
	if strings.HasPrefix(format, "panic") {
		p.session.observe(Event{Outcome: OutcomeDeferred, Code: 421, Err: fmt.Errorf(format, v...)})
	}
}

// Println does nothing.
func (*panics) Println(...any) {}
