package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// tunnel connects client and upstream after a 101: websockets and the like.
// Either side may end its half first. The tunnel has no time limit of its own
// but ends with the request's context.
func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request, res *http.Response, asked string, inspect Inspect) {
	defer res.Body.Close()
	back, ok := res.Body.(io.ReadWriteCloser)
	if got := res.Header.Get("Upgrade"); !ok || asked == "" || !strings.EqualFold(got, asked) {
		p.errorPage(w, r, http.StatusBadGateway, fmt.Errorf("upstream switched to protocol %q, the client asked for %q", got, asked))
		return
	}
	cleanResponse(res.Header)
	if inspect != nil && inspect(w, r, res) {
		return
	}
	front, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.errorPage(w, r, http.StatusBadGateway, fmt.Errorf("taking over the connection: %w", err))
		return
	}
	defer front.Close()
	stop := context.AfterFunc(r.Context(), func() {
		front.Close()
		back.Close()
	})
	defer stop()

	h := w.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{asked}
	fmt.Fprintf(buffered, "HTTP/1.1 %d %s\r\n", res.StatusCode, http.StatusText(res.StatusCode))
	_ = h.Write(buffered) // its error comes again from Flush
	_, _ = buffered.WriteString("\r\n")
	if buffered.Flush() != nil {
		return
	}
	// The client may have sent more than its request already.
	if early, _ := buffered.Reader.Peek(buffered.Reader.Buffered()); len(early) > 0 {
		if _, err := back.Write(early); err != nil {
			return
		}
	}
	splice(front, back)
}

// splice copies in both directions until both have ended or one has failed.
func splice(front net.Conn, back io.ReadWriteCloser) {
	var wg sync.WaitGroup
	pump := func(dst io.ReadWriteCloser, src io.Reader) {
		_, err := io.Copy(dst, src)
		if half, ok := dst.(interface{ CloseWrite() error }); err == nil && ok {
			err = half.CloseWrite()
		} else if err == nil {
			err = errors.ErrUnsupported
		}
		if err != nil {
			front.Close()
			back.Close()
		}
	}
	wg.Go(func() { pump(back, front) })
	pump(front, back)
	wg.Wait()
}
