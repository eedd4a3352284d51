package proxy

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// exchange is one request on its way: the state that the handler shares with
// the transport's goroutines, and the request body as the transport reads it.
type exchange struct {
	w     http.ResponseWriter
	r     *http.Request
	rc    *http.ResponseController
	limit time.Duration // for the next piece of a body to come or go

	assertion string // of who makes the request, or ""

	body    io.ReadCloser // the client's; nil without one
	trailer http.Header   // filled at the end of the body

	mu        sync.Mutex
	hasAnswer bool  // RoundTrip has returned: the header belongs to the handler
	count1xx  int   //
	reading   bool  // the transport waits for the client's body
	stalled   bool  // and has waited too long
	closed    bool  // nobody may read the body any more
	eof       bool  // the body was read to its end
	bodyErr   error // what else ended it
	timer     *time.Timer
}

var errBodyClosed = errors.New("request body is closed")

// Read reads the client's body for the transport. Each piece has to come
// within the limit.
func (x *exchange) Read(p []byte) (int, error) {
	if err := x.beginRead(); err != nil {
		return 0, err
	}
	n, err := x.body.Read(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading = false
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		x.eof = true
		dropTrailers(x.trailer)
	default:
		x.bodyErr = err
	}
	x.timer.Stop()
	return n, err
}

func (x *exchange) beginRead() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errBodyClosed
	}
	x.reading = true
	if x.timer == nil {
		x.timer = time.AfterFunc(x.limit, x.stall)
	} else {
		x.timer.Reset(x.limit)
	}
	return nil
}

// stall ends a Read that takes too long. A read deadline from the beginning
// would do so too, but cannot be told from a client that went away, and would
// have to be gone when the server begins to watch the connection.
func (x *exchange) stall() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reading && !x.closed {
		x.stalled = true
		_ = x.rc.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close ends reading on behalf of the transport. The body itself is left to
// the server, which knows whether its connection can go on.
func (x *exchange) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	return nil
}

// finish runs when the handler ends. What the server then reads to get rid of
// the rest of a body has to come within the limit as well.
func (x *exchange) finish() {
	if x.body == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timer != nil {
		x.timer.Stop()
	}
	if !x.eof && !x.stalled {
		_ = x.rc.SetReadDeadline(time.Now().Add(x.limit))
	}
	x.closed = true
}

// answered ends what the transport's goroutines may do to the writer.
func (x *exchange) answered() {
	x.mu.Lock()
	x.hasAnswer = true
	x.mu.Unlock()
}

func (x *exchange) bodyRead() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.eof
}

// bodyError returns what was wrong with the client's body, and the status
// that says so.
func (x *exchange) bodyError() (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var tooLarge *http.MaxBytesError
	switch {
	case x.stalled:
		return http.StatusRequestTimeout, fmt.Errorf("nothing more of the request body came within %v", x.limit)
	case errors.As(x.bodyErr, &tooLarge):
		return http.StatusRequestEntityTooLarge, x.bodyErr
	case x.bodyErr != nil:
		return http.StatusBadRequest, fmt.Errorf("reading the request body: %w", x.bodyErr)
	}
	return 0, nil
}

// maxInformational bounds the 1xx responses before a final one.
const maxInformational = 16

// informational passes a 1xx response on. The transport calls it from a
// goroutine of its own while the handler waits in RoundTrip.
func (x *exchange) informational(code int, header http.Header) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.count1xx++; x.count1xx > maxInformational {
		return fmt.Errorf("more than %d informational responses", maxInformational)
	}
	// To a 100 the server says its own, when we read the body.
	if x.hasAnswer || code == http.StatusContinue || !x.r.ProtoAtLeast(1, 1) {
		return nil
	}
	h := x.w.Header()
	saved := h.Clone()
	clear(h)
	cleanResponse(header)
	maps.Copy(h, header)
	x.w.WriteHeader(code)
	clear(h)
	maps.Copy(h, saved)
	return nil
}

// respond writes header, body and trailers to the client.
func (x *exchange) respond(res *http.Response) {
	h := x.w.Header()
	for name, values := range res.Header {
		if old := h[name]; old != nil {
			values = append(old[:len(old):len(old)], values...)
		}
		h[name] = values
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guesses one
	}
	announced := len(res.Trailer)
	if announced > 0 {
		names := make([]string, 0, announced)
		for name := range res.Trailer {
			names = append(names, name)
		}
		h["Trailer"] = []string{strings.Join(names, ", ")}
	}
	x.w.WriteHeader(res.StatusCode)

	if res.Body != http.NoBody {
		if err := x.copyBody(res); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if len(res.Trailer) == 0 {
		return
	}
	_ = x.rc.Flush() // a response with trailers must be chunked
	if len(res.Trailer) == announced {
		maps.Copy(h, res.Trailer)
		return
	}
	for name, values := range res.Trailer {
		h[http.TrailerPrefix+name] = values
	}
}

// headerDelay is how long the header of a response of unknown length waits
// for the first piece of its body.
const headerDelay = 10 * time.Millisecond

// copyBody streams the body: whatever one read brings is with the client
// before the next read waits.
func (x *exchange) copyBody(res *http.Response) error {
	buf := buffers.Get().(*[readBuffer]byte)
	var stop func()
	switch {
	case isEventStream(res.Header):
		if err := x.flush(); err != nil {
			return err
		}
	case res.ContentLength < 0:
		stop = x.flushSoon()
	}
	for {
		n, err := res.Body.Read(buf[:])
		if stop != nil {
			stop()
			stop = nil
		}
		if n > 0 {
			if err := x.write(buf[:n]); err != nil {
				return err // HTTP/2 may still hold the buffer: it is not put back
			}
		}
		if err == io.EOF {
			buffers.Put(buf)
			return nil
		}
		if err != nil {
			return err
		}
		if n == len(buf) {
			continue // it went out at once: it is more than any writer buffers
		}
		if err := x.flush(); err != nil {
			return err
		}
	}
}

func isEventStream(h http.Header) bool {
	const eventStream = "text/event-stream"
	values := h["Content-Type"]
	return len(values) > 0 && hasPrefixFold(values[0], eventStream)
}

// write writes one piece. The connection of an HTTP/1 client limits how long
// that may take (Listen); a stream of HTTP/2 waits for its own window.
func (x *exchange) write(p []byte) error {
	if x.r.ProtoMajor == 2 {
		stop := time.AfterFunc(x.limit, func() { _ = x.rc.SetWriteDeadline(time.Unix(1, 0)) })
		defer stop.Stop()
	}
	_, err := x.w.Write(p)
	return err
}

func (x *exchange) flush() error {
	if err := x.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// flushSoon flushes the header after headerDelay, unless the function that it
// returns is called before; after that call nothing is flushed.
func (x *exchange) flushSoon() (stop func()) {
	var mu sync.Mutex
	stopped := false
	timer := time.AfterFunc(headerDelay, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			_ = x.flush()
		}
	})
	return func() {
		if timer.Stop() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		stopped = true
	}
}

var buffers = sync.Pool{New: func() any { return new([readBuffer]byte) }}
