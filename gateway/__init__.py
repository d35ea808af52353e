"""The gateway: AWS Lambda's API and function URLs in front of a pool of sandboxes."""
