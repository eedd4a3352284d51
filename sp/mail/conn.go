package mail

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// conn is a client's connection. Each read has to end within a time, wherever
// go-smtp waits for it.
type conn struct {
	net.Conn
	limit  time.Duration
	cr     bool // was read last
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex
	draining bool
	busy     bool            // with a mail
	hidden   map[string]bool // lines that the client does not see
	told     bool            // that a mail is sent, and nothing was heard since
	lost     error           // why it was not heard
}

func newConn(c net.Conn, limit time.Duration) *conn {
	return &conn{Conn: c, limit: limit, closed: make(chan struct{}), hidden: map[string]bool{}}
}

// Read ends at once if the client is to go and has no mail under way.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.draining && !c.busy {
		c.mu.Unlock()
		return 0, os.ErrDeadlineExceeded // go-smtp says 421
	}
	c.SetReadDeadline(time.Now().Add(c.limit))
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.heard(n > 0, err)
	return c.oneCR(p[:n]), err
}

// oneCR leaves one of several carriage returns in a row. After CR, CR, LF go-smtp
// sees no new line, and so neither a doubled dot nor the end of the mail.
func (c *conn) oneCR(p []byte) int {
	kept := p[:0]
	for _, b := range p {
		if b != '\r' || !c.cr {
			kept = append(kept, b)
		}
		c.cr = b == '\r'
	}
	return len(kept)
}

// Write leaves out what is hidden. go-smtp writes line by line.
func (c *conn) Write(p []byte) (int, error) {
	if c.hidden[string(p)] {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.heard(false, err)
	}
	return n, err
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// heard notes whether the client is there. One that is silent is.
func (c *conn) heard(something bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told && !something && err != nil && c.lost == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.lost = err
	}
	if something {
		c.told = false
	}
}

// tell notes that the client is about to hear that its mail is sent.
func (c *conn) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = true
}

// unconfirmed returns why the client may not know that its last mail is sent,
// or nil if it has said something since, at least good-bye.
func (c *conn) unconfirmed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.told {
		return nil
	}
	return c.lost
}

func (c *conn) setBusy(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = busy
}

// drain makes the client go as soon as it has no mail under way.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining = true; !c.busy {
		c.SetReadDeadline(time.Now())
	}
}

// oneConn is a listener for one connection.
type oneConn struct {
	conn  *conn
	given bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.conn.closed
	return nil, io.EOF
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }
