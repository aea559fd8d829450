module verdict

go 1.25.0

require github.com/prometheus/client_model v0.6.2

require google.golang.org/protobuf v1.36.6 // indirect
