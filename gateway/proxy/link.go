package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// links are keep-alive connections to an upstream for GET and HEAD without a
// body, which is nearly all of a site's traffic. An http.Transport hands each
// request to one goroutine and its response to another; here the handler's
// own writes the one and reads the other, which costs about a third less.
// Only requests that may be repeated come here: a connection that turns out
// to be closed is replaced by a new one.
type links struct {
	dial          func(context.Context) (net.Conn, error)
	headerTimeout time.Duration

	mu    sync.Mutex
	idle  []*link // the one used last is the last
	sweep *time.Timer
}

// link is one connection. While in use it belongs to one request.
type link struct {
	net.Conn
	pool  *links
	raw   syscall.RawConn
	in    *bufio.Reader
	out   []byte
	since time.Time // when it became idle
	left  int       // how many bytes of header may still be read

	release func() bool // ends the watch over the request's context
}

// linkBody is the body of one response. Unlike the link, it never serves
// another request, so that a late Close harms nobody.
type linkBody struct {
	link  *link
	from  io.ReadCloser
	reuse bool        // the upstream does not close after this response
	ended atomic.Bool // read to its end, or given up
}

const maxResponseHeader = 1 << 20

var (
	errHeaderTooLong = fmt.Errorf("response header is longer than %d bytes", maxResponseHeader)
	getRequest       = &http.Request{Method: http.MethodGet}
	headRequest      = &http.Request{Method: http.MethodHead}
)

func newLinks(o Options) *links {
	connect, address := dialer(o), o.Upstream.Host
	if o.Upstream.Port() == "" {
		address = net.JoinHostPort(o.Upstream.Hostname(), "80")
	}
	return &links{
		dial:          func(ctx context.Context) (net.Conn, error) { return connect(ctx, "tcp", address) },
		headerTimeout: orDefault(o.ResponseHeaderTimeout, DefaultResponseHeaderTimeout),
	}
}

// plainRequest reports whether a request may go over a link.
func plainRequest(r *http.Request) bool {
	return r.ContentLength == 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// roundTrip sends a request and returns the response, whose body has to be
// read to its end or closed. 1xx responses go to informational.
func (p *links) roundTrip(ctx context.Context, method, target, host string, header http.Header, informational func(int, http.Header) error) (*http.Response, error) {
	for {
		l := p.take()
		fresh := l == nil
		if fresh {
			var err error
			if l, err = p.connect(ctx); err != nil {
				return nil, err
			}
		}
		res, answered, err := l.exchange(ctx, method, target, host, header, informational)
		if err == nil {
			return res, nil
		}
		l.Conn.Close()
		if fresh || answered || errors.Is(err, context.Canceled) || isTimeout(err) {
			return nil, err
		}
		// The upstream closed just when we wrote. Another one that was idle
		// may be as dead; this ends when none is left.
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (p *links) connect(ctx context.Context) (*link, error) {
	c, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: c, pool: p}
	if l.raw, err = c.(*conn).Conn.(*net.TCPConn).SyscallConn(); err != nil {
		c.Close()
		return nil, err
	}
	l.in = bufio.NewReaderSize(headerLimit{l}, readBuffer)
	return l, nil
}

// exchange writes the request and reads the header of its final response.
// answered says whether any byte came back.
func (l *link) exchange(ctx context.Context, method, target, host string, header http.Header, informational func(int, http.Header) error) (res *http.Response, answered bool, err error) {
	l.release = context.AfterFunc(ctx, l.cancel)
	defer func() {
		if err != nil {
			l.release()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
		}
	}()
	if err := l.SetReadDeadline(time.Now().Add(l.pool.headerTimeout)); err != nil {
		return nil, false, err
	}
	if ctx.Err() != nil { // or the deadline just set would have hidden it
		return nil, true, ctx.Err()
	}
	l.out = appendRequest(l.out[:0], method, target, host, header)
	if _, err := l.Write(l.out); err != nil {
		return nil, false, err
	}
	l.left = maxResponseHeader
	if _, err := l.in.Peek(1); err != nil {
		return nil, false, err
	}
	req := getRequest
	if method == http.MethodHead {
		req = headRequest
	}
	for {
		if res, err = http.ReadResponse(l.in, req); err != nil {
			return nil, true, err
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return nil, true, errors.New("upstream switched protocols unasked")
		}
		if res.StatusCode >= 200 {
			break
		}
		if err := informational(res.StatusCode, res.Header); err != nil {
			return nil, true, err
		}
		l.left = maxResponseHeader
	}
	l.left = -1
	if res.Body == http.NoBody {
		l.end(!res.Close)
		return res, true, nil
	}
	if res.ContentLength < 0 || int64(l.in.Buffered()) < res.ContentLength {
		// More has to come, and may take its time.
		if err := l.SetReadDeadline(time.Time{}); err != nil {
			return nil, true, err
		}
		if ctx.Err() != nil {
			return nil, true, ctx.Err()
		}
	}
	res.Body = &linkBody{link: l, from: res.Body, reuse: !res.Close}
	return res, true, nil
}

// appendRequest writes a request as it goes over the wire. The header has
// been read from a request, so that its names and values are well-formed.
func appendRequest(b []byte, method, target, host string, header http.Header) []byte {
	b = append(append(append(append(b, method...), ' '), target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, host...), "\r\n"...)
	for name, values := range header {
		for _, value := range values {
			b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// cancel interrupts whatever waits on the connection.
func (l *link) cancel() { _ = l.SetDeadline(time.Unix(1, 0)) }

// end puts a link back whose response has ended.
func (l *link) end(reuse bool) {
	if l.release() && reuse && l.in.Buffered() == 0 {
		l.pool.put(l)
	} else {
		l.Conn.Close()
	}
}

func (b *linkBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	switch {
	case err == io.EOF:
		if b.ended.CompareAndSwap(false, true) {
			b.from = http.NoBody
			b.link.end(b.reuse)
		}
	case err != nil:
		b.Close()
	}
	return n, err
}

// Close gives up what is left of the response, and the connection with it.
func (b *linkBody) Close() error {
	if !b.ended.CompareAndSwap(false, true) {
		return nil
	}
	b.link.release()
	return b.link.Conn.Close()
}

// headerLimit is how a link's buffer reads from its connection.
type headerLimit struct{ l *link }

func (h headerLimit) Read(p []byte) (int, error) {
	l := h.l
	if l.left < 0 {
		return l.Conn.Read(p)
	}
	if l.left == 0 {
		return 0, errHeaderTooLong
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// take returns the idle link that was used last, or nil. What came in the
// meantime belongs to no request: such a connection is not used again, lest
// somebody gets an answer that is not his.
func (p *links) take() *link {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		l := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if time.Since(l.since) < idleTimeout && l.quiet() {
			return l
		}
		l.Conn.Close()
	}
}

// quiet reports whether the connection is open and has nothing to read.
func (l *link) quiet() bool {
	quiet := false
	err := l.raw.Read(func(fd uintptr) bool {
		quiet = nothingToRead(fd)
		return true
	})
	return err == nil && quiet
}

func (p *links) put(l *link) {
	l.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxIdle {
		l.Conn.Close()
		return
	}
	p.idle = append(p.idle, l)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleTimeout, p.closeOld)
	}
}

// closeOld closes what has been idle for too long, again and again until
// nothing is left.
func (p *links) closeOld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := 0
	for old < len(p.idle) && time.Since(p.idle[old].since) >= idleTimeout {
		p.idle[old].Conn.Close()
		old++
	}
	p.idle = append(p.idle[:0], p.idle[old:]...)
	p.sweep = nil
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(idleTimeout, p.closeOld)
	}
}

// closeIdle closes what no request uses.
func (p *links) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.idle {
		l.Conn.Close()
	}
	p.idle = nil
}
